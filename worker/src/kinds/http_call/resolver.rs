//! Name resolution that answers only addresses that may be dialled. The connector dials what it is given here, so a name
//! that changes its addresses between a check and the connection has nothing to win.

use std::error::Error;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::egress::{EgressPolicy, Refused};

/// The system's resolver behind an [`EgressPolicy`].
pub(super) struct GuardedResolver {
    policy: EgressPolicy,
}

impl GuardedResolver {
    pub(super) fn new(policy: EgressPolicy) -> Self {
        Self { policy }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.policy.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(permitted(found, &policy)?.into_iter()) as Addrs)
        })
    }
}

/// The addresses that may be dialled; an error if there were some, and all are refused.
fn permitted(found: impl Iterator<Item = SocketAddr>, policy: &EgressPolicy) -> Result<Vec<SocketAddr>, Refused> {
    let mut good = Vec::new();
    let mut refusal = None;
    for address in found {
        match policy.check(address.ip()) {
            Ok(()) => good.push(address),
            Err(refused) => refusal = Some(refused),
        }
    }
    match refusal {
        Some(refused) if good.is_empty() => Err(refused),
        _ => Ok(good),
    }
}

/// The refusal among the causes of an error, if that is what it comes from.
pub(super) fn refusal<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Refused> {
    super::outbound::chain(error).find_map(|cause| cause.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_permitted_addresses_are_left() {
        let addresses = |list: &[&str]| {
            list.iter().map(|text| SocketAddr::new(text.parse().expect("an address"), 0)).collect::<Vec<_>>()
        };
        let policy = EgressPolicy::default();
        let mixed = addresses(&["10.0.0.1", "1.1.1.1", "::1", "2606:4700::1111"]);
        assert_eq!(permitted(mixed.into_iter(), &policy), Ok(addresses(&["1.1.1.1", "2606:4700::1111"])));
        assert!(permitted(addresses(&["10.0.0.1", "::1"]).into_iter(), &policy).is_err());
        assert_eq!(permitted(std::iter::empty(), &policy), Ok(vec![]));
    }

    #[tokio::test]
    async fn localhost_is_refused() {
        let resolver = GuardedResolver::new(EgressPolicy::default());
        let error = resolver.resolve("localhost".parse().expect("a name")).await.err().expect("refused");
        assert!(refusal(error.as_ref()).is_some(), "{error}");
    }
}
