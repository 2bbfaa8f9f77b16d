//! Compressed bodies, there and back.

use async_compression::tokio::bufread::{GzipDecoder, GzipEncoder, ZstdDecoder, ZstdEncoder};
use tokio::io::{AsyncRead, AsyncReadExt};

async fn all(mut reader: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await.expect("readable");
    bytes
}

pub(crate) async fn gzip(plain: &[u8]) -> Vec<u8> {
    all(GzipEncoder::new(plain)).await
}

pub(crate) async fn zstd(plain: &[u8]) -> Vec<u8> {
    all(ZstdEncoder::new(plain)).await
}

pub(crate) async fn gunzip(packed: &[u8]) -> Vec<u8> {
    all(GzipDecoder::new(packed)).await
}

pub(crate) async fn unzstd(packed: &[u8]) -> Vec<u8> {
    all(ZstdDecoder::new(packed)).await
}
