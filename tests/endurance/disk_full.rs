//! The disk of the file storage is full.

use std::path::Path;
use std::process::Command;

use offload_common::testing::eventually;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::client::Client;
use crate::support::{FleetBuilder, Site};

/// A small disk over a folder, until it is dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn over(folder: &'a Path) -> Self {
        let disk = Self(folder);
        disk.mount("size=2m");
        // As the storage made it at its start, in the folder that is hidden now.
        std::fs::create_dir(folder.join("incoming")).expect("there is room");
        disk
    }

    fn grow(&self) {
        self.mount("remount,size=64m");
    }

    fn mount(&self, options: &str) {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(self.0).status();
        assert!(
            mounted.expect("mount starts").success(),
            "a small disk takes root: run this as root, or in `unshare -rm`"
        );
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_refused_and_what_fits_works_again_once_there_is_room() {
    let fleet = FleetBuilder::new(1, 1).start(Site::take().await).await;
    let client = Client::of(&fleet);
    let folder = fleet.folder().join("files");
    let disk = SmallDisk::over(&folder);

    let (status, small) = client.upload(vec![b'x'; 100_000]).await;
    assert_eq!(status, StatusCode::CREATED, "{small:#}");
    let (status, problem) = client.upload(vec![b'x'; 4 << 20]).await;
    assert_eq!((status, &problem["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(503)), "{problem:#}");
    let (status, _) = client.upload(vec![b'x'; 100_000]).await;
    assert_eq!(status, StatusCode::CREATED, "what did not fit has left nothing behind");

    // A job whose output does not fit is tried again until it does.
    let source = client.upload(image()).await.1["id"].as_str().expect("an id").to_owned();
    let filler: Vec<Value> = fill(&client).await;
    let outputs: Vec<Value> = (0..4).map(|n| json!({"name": format!("copy {n}"), "format": "png"})).collect();
    let id = client.submit("image.transform", json!({"source": {"file": source}, "outputs": outputs})).await;
    let is_refused = |job: &Value| job["error"]["code"] == "storage_unavailable";
    let job = eventually("an attempt fails", async || Some(client.job(&id).await).filter(is_refused)).await;
    assert_eq!(job["state"], "scheduled", "{job:#}");
    disk.grow();
    eventually("it succeeds", async || (client.job(&id).await["state"] == "succeeded").then_some(())).await;
    assert!(!filler.is_empty(), "the disk was full");
    drop(disk);
    fleet.end().await;
}

/// Fills what is left of the disk; answers what fitted.
async fn fill(client: &Client) -> Vec<Value> {
    let mut stored = Vec::new();
    loop {
        let (status, file) = client.upload(vec![b'x'; 50_000]).await;
        if status != StatusCode::CREATED {
            return stored;
        }
        stored.push(file);
    }
}

/// A photo whose PNG has some hundred kilobytes: noise, which does not compress.
fn image() -> Vec<u8> {
    let noise = image::RgbImage::from_fn(200, 200, |_, _| image::Rgb(rand::random()));
    let mut bytes = std::io::Cursor::new(Vec::new());
    noise.write_to(&mut bytes, image::ImageFormat::Png).expect("encoded");
    bytes.into_inner()
}
