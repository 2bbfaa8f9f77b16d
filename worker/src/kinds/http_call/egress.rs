//! Which addresses `http.call` may reach: the public internet, and what the operator allows beyond it.
//!
//! The tables follow the special-purpose registries of IANA (RFC 6890 and its updates).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use ipnet::IpNet;

/// Networks that are not the public internet, with the word for them in the refusal. Of IPv6 only 2000::/3 is assigned
/// to it at all; these are the exceptions within.
const SPECIAL: [(&str, &str); 28] = [
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::/96", "IPv4-compatible"),
    ("64:ff9b:1::/48", "local translation"),
    ("100::/64", "discard"),
    ("2001::/23", "Teredo or protocol assignments"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("3fff::/20", "documentation"),
    ("fc00::/7", "unique local"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
];

static SPECIAL_NETS: LazyLock<Vec<(IpNet, &str)>> = LazyLock::new(|| {
    let parse = |(net, name): (&str, &'static str)| (net.parse().expect("the table holds networks"), name);
    SPECIAL.into_iter().map(parse).collect()
});

/// An address is not to be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is not on the public internet ({what}); an operator can allow its network in egress.allow")]
pub(super) struct Refused {
    address: IpAddr,
    what: &'static str,
}

/// The public internet, and the networks that an operator allows beyond it.
#[derive(Clone, Debug, Default)]
pub(super) struct EgressPolicy {
    allow: Vec<IpNet>,
}

impl EgressPolicy {
    pub(super) fn new(allow: &[IpNet]) -> Self {
        Self { allow: allow.to_vec() }
    }

    /// Whether `address` may be dialled. Where IPv4 is carried in IPv6 by mapping or NAT64, what counts is the address
    /// that is reached in the end.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), Refused> {
        let reached = reached(address);
        if self.allow.iter().any(|net| net.contains(&address) || net.contains(&reached)) {
            return Ok(());
        }
        let what = match SPECIAL_NETS.iter().find(|(net, _)| net.contains(&reached)) {
            Some((_, name)) => name,
            None if is_assigned(reached) => return Ok(()),
            None => "unassigned",
        };
        Err(Refused { address, what })
    }
}

fn is_assigned(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => v6.segments()[0] >> 13 == 1,
    }
}

fn reached(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => embedded(v6).map_or(address, IpAddr::V4),
    }
}

/// The IPv4 address in a mapped (::ffff:0:0/96) or NAT64 (64:ff9b::/96) one.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [head @ .., a, b, c, d] = v6.octets();
    let nat64 = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];
    v6.to_ipv4_mapped().or_else(|| (head == nat64).then(|| Ipv4Addr::new(a, b, c, d)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(policy: &EgressPolicy, address: &str) -> Option<&'static str> {
        policy.check(address.parse().expect("an address")).err().map(|refused| refused.what)
    }

    #[test]
    fn special_addresses_are_refused() {
        let policy = EgressPolicy::default();
        for (address, what) in [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("10.0.0.1", "private"),
            ("10.255.255.255", "private"),
            ("100.64.0.1", "carrier-grade NAT"),
            ("100.127.255.255", "carrier-grade NAT"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("169.254.169.254", "link-local"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.192", "protocol assignments"),
            ("192.0.2.1", "documentation"),
            ("192.88.99.1", "6to4 relay"),
            ("192.168.1.1", "private"),
            ("198.18.0.1", "benchmarking"),
            ("198.19.255.255", "benchmarking"),
            ("198.51.100.7", "documentation"),
            ("203.0.113.7", "documentation"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "reserved"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::127.0.0.1", "IPv4-compatible"),
            ("::8.8.8.8", "IPv4-compatible"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:169.254.169.254", "link-local"),
            ("::ffff:10.0.0.1", "private"),
            ("64:ff9b::127.0.0.1", "loopback"),
            ("64:ff9b::a00:1", "private"),
            ("64:ff9b:1::1", "local translation"),
            ("100::1", "discard"),
            ("2001::1", "Teredo or protocol assignments"),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "Teredo or protocol assignments"),
            ("2001:db8::1", "documentation"),
            ("2002:7f00:1::", "6to4"),
            ("2002:808:808::1", "6to4"),
            ("3fff::1", "documentation"),
            ("5f00::1", "unassigned"),
            ("4000::1", "unassigned"),
            ("fc00::1", "unique local"),
            ("fd00:ec2::254", "unique local"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
        ] {
            assert_eq!(refused(&policy, address), Some(what), "{address}");
        }
    }

    #[test]
    fn public_addresses_are_reachable() {
        let policy = EgressPolicy::default();
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2a00:1450:4001::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert_eq!(refused(&policy, address), None, "{address}");
        }
    }

    #[test]
    fn allowed_networks_win_and_open_nothing_else() {
        let nets = ["127.0.0.0/8", "10.1.0.0/16", "fd00:1::/32"].map(|net| net.parse().expect("a network"));
        let policy = EgressPolicy::new(&nets);
        for address in ["127.0.0.1", "10.1.2.3", "fd00:1::7", "::ffff:127.0.0.1", "64:ff9b::10.1.0.9", "1.1.1.1"] {
            assert_eq!(refused(&policy, address), None, "{address}");
        }
        for address in ["10.2.0.1", "::1", "169.254.169.254", "fd00:2::7", "::127.0.0.1"] {
            assert!(refused(&policy, address).is_some(), "{address}");
        }
    }

    proptest! {
        #[test]
        fn hiding_an_ipv4_address_in_ipv6_reaches_nothing_more(bits in any::<u32>()) {
            let policy = EgressPolicy::default();
            let plain = Ipv4Addr::from_bits(bits);
            let (high, low) = ((bits >> 16) as u16, bits as u16);
            let verdict = policy.check(plain.into()).map_err(|refused| refused.what);
            let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low);
            for hidden in [plain.to_ipv6_mapped(), nat64] {
                prop_assert_eq!(policy.check(hidden.into()).map_err(|refused| refused.what), verdict);
            }
            let compatible = Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low);
            let six_to_four = Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1);
            let teredo = Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !high, !low);
            for hidden in [compatible, six_to_four, teredo] {
                prop_assert!(policy.check(hidden.into()).is_err());
            }
        }

        #[test]
        fn the_agreement_with_the_standard_library(bits in any::<u32>()) {
            let address = Ipv4Addr::from_bits(bits);
            let special = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_multicast() || address.is_broadcast() || address.is_documentation()
                || address.is_unspecified();
            if special {
                prop_assert!(EgressPolicy::default().check(address.into()).is_err());
            }
        }
    }
}
