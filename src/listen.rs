//! Sockets to listen on, where they are, and serving the API on one.

use std::io::ErrorKind;
use std::net::SocketAddr;

use anyhow::Context;
use offload_api::Api;
use tokio::net::TcpListener;

use crate::lifecycle::Stop;

/// Listens.
///
/// # Errors
/// Where the address cannot be had; the message says how to choose another.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}")).map_err(|error| {
        let taken = error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == ErrorKind::AddrInUse);
        if taken {
            anyhow::anyhow!(
                "{address} is taken by another program; choose another address with --listen, as in --listen 127.0.0.1:0 for any free port"
            )
        } else {
            error
        }
    })
}

/// Serves the API until `stop` fires: requests that run get their grace time, or none if it is to stop at once.
///
/// # Errors
/// Where the listener fails.
pub(crate) async fn serve(api: Api, listener: TcpListener, stop: Stop) -> std::io::Result<()> {
    let serving = api.serve(listener, stop.drain.clone());
    stop.halt.run_until_cancelled(serving).await.unwrap_or(Ok(()))
}

/// The address to use from this machine: an unspecified one is reached through loopback.
pub(crate) fn url(address: SocketAddr) -> String {
    let mut reachable = address;
    if address.ip().is_unspecified() {
        reachable.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    format!("http://{reachable}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everywhere_is_reached_through_loopback() {
        let url = |address: &str| url(address.parse().expect("an address"));
        assert_eq!(url("0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(url("[::]:80"), "http://[::1]:80");
        assert_eq!(url("10.0.0.1:80"), "http://10.0.0.1:80");
    }

    #[tokio::test]
    async fn a_taken_address_says_how_to_choose_another() {
        let taken = bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let error = bind(taken.local_addr().expect("bound")).await.expect_err("taken");
        assert!(error.to_string().contains("--listen"), "{error}");
    }
}
