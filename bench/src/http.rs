//! An HTTP/1.1 connection with nothing to spare, since the load generator shares the cores with what it measures.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection that is kept alive.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("{address} does not answer"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Sends a request and reads its answer: the status, and the body.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server hung up in the middle of an answer");
            }
            let Some(head) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let (status, length) = read_head(&self.buffer[..head])?;
            let end = head + 4 + length;
            while self.buffer.len() < end {
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    bail!("the server hung up in the middle of a body");
                }
            }
            return Ok((status, &self.buffer[head + 4..end]));
        }
    }

    /// The same, for an answer that must have this status.
    pub(crate) async fn expect(&mut self, status: u16, request: &[u8]) -> anyhow::Result<&[u8]> {
        let (got, body) = self.ask(request).await?;
        if got != status {
            bail!("{got} instead of {status}: {}", String::from_utf8_lossy(body));
        }
        Ok(body)
    }
}

/// The status, and how long the body is.
fn read_head(head: &[u8]) -> anyhow::Result<(u16, usize)> {
    let head = std::str::from_utf8(head).context("an answer's head is not text")?;
    let status = head.get(9..12).and_then(|status| status.parse().ok()).context("an answer has no status")?;
    let length = head.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok((status, length.unwrap_or(0)))
}

/// A `GET`.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes()
}

/// A `POST` with a body of this type; `more` are further header lines, each with its line end.
pub(crate) fn post(path: &str, content_type: &str, more: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n{more}\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_how_long_the_body_is() {
        let head = b"HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\nContent-Length: 17";
        assert_eq!(read_head(head).expect("a head"), (202, 17));
        assert!(read_head(b"nonsense").is_err());
    }
}
