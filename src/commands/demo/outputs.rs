//! Where results end up: files are downloaded, anything else is written as JSON.

use std::path::{Path, PathBuf};

use anyhow::Context;
use futures_util::StreamExt;
use offload_common::job::FileId;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use crate::client::{Client, JobView};

#[derive(Deserialize)]
struct Images {
    outputs: Vec<Image>,
}

#[derive(Deserialize)]
struct Image {
    name: String,
    file: FileId,
    content_type: String,
}

/// Writes what a job came to below `folder`, as `<name>-<output>.<ending>` or `<name>.json`. Answers the files and how
/// many bytes they hold.
pub(super) async fn save(client: &Client, job: &JobView, folder: &Path, name: &str) -> anyhow::Result<Vec<Saved>> {
    let Some(result) = &job.result else { return Ok(Vec::new()) };
    tokio::fs::create_dir_all(folder)
        .await
        .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    let Ok(images) = serde_json::from_str::<Images>(result.get()) else {
        let path = folder.join(format!("{name}.json"));
        tokio::fs::write(&path, result.get()).await.with_context(|| format!("writing {}", path.display()))?;
        return Ok(vec![Saved { bytes: result.get().len() as u64, path }]);
    };
    let mut saved = Vec::new();
    for image in images.outputs {
        let ending = image.content_type.rsplit('/').next().unwrap_or("bin");
        let path = folder.join(format!("{name}-{}.{ending}", image.name));
        let bytes = download(client, image.file, &path).await.with_context(|| format!("writing {}", path.display()))?;
        saved.push(Saved { path, bytes });
    }
    Ok(saved)
}

/// A file that was written.
pub(super) struct Saved {
    /// Where.
    pub(super) path: PathBuf,
    /// Its length.
    pub(super) bytes: u64,
}

async fn download(client: &Client, id: FileId, path: &Path) -> anyhow::Result<u64> {
    let mut content = std::pin::pin!(client.download(id).await?);
    let mut file = tokio::fs::File::create(path).await?;
    let mut bytes = 0;
    while let Some(piece) = content.next().await {
        let piece = piece?;
        bytes += piece.len() as u64;
        file.write_all(&piece).await?;
    }
    file.flush().await?;
    Ok(bytes)
}
