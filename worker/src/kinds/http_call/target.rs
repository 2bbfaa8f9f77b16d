//! Where a request goes: the URL of the payload or of a redirect, checked before anything is dialled.

use std::fmt;

use url::{Host, Url};

use super::egress::EgressPolicy;
use crate::kind::JobError;

/// A URL that may be requested. If its host is a name, the addresses behind it are checked when they are known (see
/// [`super::resolver`]).
#[derive(Clone, Debug)]
pub(in crate::kinds) struct Target(Url);

impl Target {
    /// Checks the URL of a payload.
    pub(super) fn first(text: &str, policy: &EgressPolicy) -> Result<Self, JobError> {
        let url = Url::parse(text).map_err(|error| JobError::fail("invalid_url", format!("`{text}`: {error}")))?;
        Self::checked(url, policy)
    }

    /// Checks where a redirect from here leads.
    pub(super) fn redirected(&self, location: &str, policy: &EgressPolicy) -> Result<Self, JobError> {
        let url = self.0.join(location).map_err(|error| {
            JobError::fail("bad_redirect", format!("{self} redirects to `{location}`, which is no URL: {error}"))
        })?;
        Self::checked(url, policy)
    }

    /// The URL itself, with its query.
    pub(in crate::kinds) fn url(&self) -> &Url {
        &self.0
    }

    /// Whether credentials for `other` are good here.
    pub(super) fn same_origin(&self, other: &Target) -> bool {
        self.0.origin() == other.0.origin()
    }

    fn checked(mut url: Url, policy: &EgressPolicy) -> Result<Self, JobError> {
        url.set_fragment(None);
        let refused = |why: String| Err(JobError::fail("egress_refused", why));
        if !matches!(url.scheme(), "http" | "https") {
            return refused(format!("only http and https are called, not `{}`", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("a URL with a user name or password is not called; use an Authorization header".to_owned());
        }
        // Literal addresses never meet the resolver. The parser has normalised every spelling of them.
        let verdict = match url.host() {
            Some(Host::Ipv4(address)) => policy.check(address.into()),
            Some(Host::Ipv6(address)) => policy.check(address.into()),
            Some(Host::Domain(_)) => Ok(()),
            None => return refused("the URL names no host".to_owned()),
        };
        match verdict {
            Ok(()) => Ok(Self(url)),
            Err(error) => refused(error.to_string()),
        }
    }
}

/// As messages show it: without the query, which may hold a secret.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0.origin().ascii_serialization(), self.0.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::JobError::Failed;

    fn outcome(result: Result<Target, JobError>) -> Result<String, String> {
        result.map(|target| target.to_string()).map_err(|error| match error {
            Failed(failure) => failure.code,
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn odd_spellings_of_refused_hosts_are_seen_through() {
        let policy = EgressPolicy::default();
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://0x7f.1/",
            "http://127.0.0.1./",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[0:0:0:0:0:0:0:1]/",
            "http://0/",
            "http://①②⑦.0.0.1/",
            "http://169.254.169.254/latest/meta-data/",
            "https://10.0.0.1:8443/",
            "http://user@example.com/",
            "http://user:password@example.com/",
            "http://example.com@127.0.0.1/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "gopher://example.com/",
            "data:text/plain,x",
        ] {
            assert_eq!(outcome(Target::first(url, &policy)), Err("egress_refused".to_owned()), "{url}");
        }
        for url in [
            "",
            "/path",
            "http://",
            "http://[::1",
            "http://exa mple/",
            "http://1.2.3.4.5.6/",
            "http://[fe80::1%25eth0]/",
        ] {
            assert_eq!(outcome(Target::first(url, &policy)), Err("invalid_url".to_owned()), "{url}");
        }
    }

    #[test]
    fn messages_do_not_show_the_query() {
        let target = Target::first("HTTPS://Example.COM:443/a/../b?token=secret#part", &EgressPolicy::default());
        assert_eq!(outcome(target.clone()), Ok("https://example.com/b".to_owned()));
        assert_eq!(target.expect("allowed").url().as_str(), "https://example.com/b?token=secret");
    }

    #[test]
    fn redirects_are_relative_to_where_they_came_from_and_checked() {
        let policy = EgressPolicy::default();
        let from = Target::first("https://example.com/a/b", &policy).expect("allowed");
        for (location, expected) in [
            ("c", Ok("https://example.com/a/c")),
            ("/c", Ok("https://example.com/c")),
            ("//example.org/c", Ok("https://example.org/c")),
            ("http://example.org", Ok("http://example.org/")),
            ("http://[::1]/", Err("egress_refused")),
            ("//2130706433/", Err("egress_refused")),
            ("file:///etc/passwd", Err("egress_refused")),
            ("javascript:alert(1)", Err("egress_refused")),
            ("http://[", Err("bad_redirect")),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(outcome(from.redirected(location, &policy)), expected, "{location}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let target = |url| Target::first(url, &EgressPolicy::default()).expect("allowed");
        let here = target("https://example.com/a");
        assert!(here.same_origin(&target("https://EXAMPLE.com:443/b")));
        for elsewhere in ["http://example.com/a", "https://example.com:444/a", "https://www.example.com/a"] {
            assert!(!here.same_origin(&target(elsewhere)), "{elsewhere}");
        }
    }
}
