//! `image.transform`: one image in, several out: scaled, cut, turned, in other formats.
//!
//! Sizes are known from the head of the file, so every refusal comes before the work; the file is decoded once, and all
//! work on pixels runs in the compute slots.

mod decode;
mod encode;
mod jpeg;
mod operations;
mod plan;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use image::DynamicImage;
use offload_common::job::FileId;
use offload_common::kind::KindSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use self::encode::Format;
use self::plan::{Operation, Size};
use super::source::Source;
use crate::kind::{Context, JobError, JobKind};

/// The largest file that is read, in bytes. It is held in memory while it is decoded.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// Which image, and what to make of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Payload {
    /// A JPEG, PNG or WebP file. It is turned upright as its metadata say before anything else.
    source: Source,
    /// What to make of it.
    #[schemars(length(min = 1, max = 32))]
    outputs: Vec<Wish>,
}

/// An image to make.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// What the result calls it; each output has a name of its own.
    #[schemars(length(min = 1, max = 100), example = "thumbnail".to_owned())]
    name: String,
    /// The format of the file.
    format: Format,
    /// For `jpeg` (82 unless given) and `webp` (80); `png` is exact at any.
    #[serde(default)]
    #[schemars(with = "u8", range(min = 1, max = 100))]
    quality: Option<u8>,
    /// What is done to the source, in order.
    #[serde(default)]
    #[schemars(length(max = 32))]
    operations: Vec<Operation>,
}

/// What was made.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Output {
    /// One per output of the payload, in order.
    outputs: Vec<Made>,
}

/// An image that was made.
#[derive(Debug, Serialize, JsonSchema)]
struct Made {
    /// As in the payload.
    name: String,
    /// The id of the file: `GET /v1/files/{id}`.
    file: FileId,
    /// Pixels.
    width: u32,
    /// Pixels.
    height: u32,
    /// The length of the file.
    bytes: u64,
    /// Its media type.
    content_type: String,
}

pub(super) struct ImageTransform;

#[async_trait]
impl JobKind for ImageTransform {
    type Payload = Payload;
    type Output = Output;

    fn spec(&self) -> KindSpec {
        let description = "Makes images of other sizes, cuts and formats from one JPEG, PNG or WebP file.";
        KindSpec::new::<Payload, Output>("image.transform", description).repeatable().timeout(Duration::from_secs(600))
    }

    async fn run(&self, job: &Context, payload: Payload) -> Result<Output, JobError> {
        distinct(&payload.outputs)?;
        let file = read(job, payload.source.file).await?;
        let wishes = Arc::new(payload.outputs);
        let count = wishes.len() as f64;
        let source = {
            let wishes = Arc::clone(&wishes);
            Arc::new(job.compute(move || decode(&file, &wishes)).await?)
        };
        let mut outputs = Vec::with_capacity(wishes.len());
        for (index, wish) in wishes.iter().enumerate() {
            let (source, wishes, stop) = (Arc::clone(&source), Arc::clone(&wishes), job.stop().clone());
            let (size, content) = job.compute(move || make(&source, &wishes[index], &stop)).await?;
            let content_type = wish.format.content_type();
            let content = stream::once(async move { Ok(Bytes::from(content)) }).boxed();
            let saved = job.save_file(content_type, content).await?;
            job.progress((index + 1) as f64 / count, wish.name.as_str());
            outputs.push(Made {
                name: wish.name.clone(),
                file: saved.id,
                width: size.width,
                height: size.height,
                bytes: saved.bytes,
                content_type: content_type.to_owned(),
            });
        }
        Ok(Output { outputs })
    }
}

fn distinct(wishes: &[Wish]) -> Result<(), JobError> {
    let mut names = HashSet::new();
    match wishes.iter().find(|wish| !names.insert(&wish.name)) {
        Some(twice) => Err(JobError::fail("duplicate_output", format!("two outputs are named `{}`", twice.name))),
        None => Ok(()),
    }
}

async fn read(job: &Context, id: FileId) -> Result<Vec<u8>, JobError> {
    let length = job.file(id).await?.bytes;
    if length > MAX_FILE {
        let message = format!("the file has {length} bytes; an image may have {MAX_FILE}");
        return Err(JobError::fail("image_too_large", message));
    }
    let mut file = Vec::with_capacity(length as usize);
    let mut content = job.read_file(id).await?;
    while let Some(piece) = content.try_next().await.map_err(|error| JobError::retry("storage_unavailable", error))? {
        file.extend_from_slice(&piece);
    }
    Ok(file)
}

/// Decodes the file, once it is certain that every wish can be granted.
fn decode(file: &[u8], wishes: &[Wish]) -> Result<DynamicImage, JobError> {
    let opened = decode::open(file)?;
    for wish in wishes {
        let size = opened.size.after_all(&wish.operations)?;
        wish.format.holds(size)?;
    }
    opened.decode()
}

/// Makes one output.
fn make(source: &DynamicImage, wish: &Wish, stop: &CancellationToken) -> Result<(Size, Vec<u8>), JobError> {
    let image = operations::apply(source, &wish.operations, stop)?;
    let file = encode::encode(&image, wish.format, wish.quality)?;
    Ok((Size::new(image.width(), image.height()), file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use offload_common::kind::KindCatalog;
    use serde_json::{Value, json};

    fn payload(output: Value) -> Value {
        json!({"source": {"file": "0199f6c2-7b5e-7cc3-98c4-dc0c0c07398f"}, "outputs": [output]})
    }

    fn pointers(payload: &Value) -> Vec<String> {
        let catalog = KindCatalog::new([ImageTransform.spec()]).expect("compiles");
        let found = catalog.violations("image.transform", payload).expect("known");
        found.into_iter().map(|violation| violation.pointer).collect()
    }

    #[test]
    fn what_the_schema_takes_fits() {
        for output in [
            json!({"name": "a", "format": "png"}),
            json!({"name": "a", "format": "jpeg", "quality": 1, "operations": [
                {"op": "resize", "width": 1, "height": 16_383, "mode": "fill"},
                {"op": "resize", "height": 9, "enlarge": false},
                {"op": "crop", "x": 0, "y": 0, "width": 1, "height": 1},
                {"op": "rotate", "degrees": 270},
                {"op": "flip", "direction": "horizontal"},
                {"op": "blur", "sigma": 0.5},
                {"op": "grayscale"},
            ]}),
        ] {
            assert_eq!(pointers(&payload(output.clone())), Vec::<String>::new(), "{output}");
            serde_json::from_value::<Payload>(payload(output)).expect("fits");
        }
    }

    #[test]
    fn the_schema_points_at_what_is_wrong() {
        let step = |step: Value| json!({"name": "a", "format": "png", "operations": [step]});
        for (output, pointer) in [
            (json!({"name": "a"}), "/outputs/0/format"),
            (json!({"name": "", "format": "png"}), "/outputs/0/name"),
            (json!({"name": "a", "format": "gif"}), "/outputs/0/format"),
            (json!({"name": "a", "format": "jpeg", "quality": 0}), "/outputs/0/quality"),
            (json!({"name": "a", "format": "jpeg", "quality": 101}), "/outputs/0/quality"),
            (step(json!({})), "/outputs/0/operations/0"),
            (step(json!({"op": "melt"})), "/outputs/0/operations/0/op"),
            (step(json!({"op": "resize", "width": -1})), "/outputs/0/operations/0/width"),
            (step(json!({"op": "resize", "width": 16_384})), "/outputs/0/operations/0/width"),
            (step(json!({"op": "resize", "width": 9, "mode": "melt"})), "/outputs/0/operations/0/mode"),
            (step(json!({"op": "resize", "wdth": 9})), "/outputs/0/operations/0/wdth"),
            (step(json!({"op": "crop", "x": 0, "y": 0, "width": 1})), "/outputs/0/operations/0/height"),
            (step(json!({"op": "rotate", "degrees": 45})), "/outputs/0/operations/0/degrees"),
            (step(json!({"op": "blur", "sigma": 1000})), "/outputs/0/operations/0/sigma"),
            (step(json!({"op": "grayscale", "much": true})), "/outputs/0/operations/0/much"),
        ] {
            let payload = payload(output);
            assert_eq!(pointers(&payload), [pointer], "{payload}");
        }
        assert_eq!(
            pointers(&json!({"source": {"file": "0199f6c2-7b5e-7cc3-98c4-dc0c0c07398f"}, "outputs": []})),
            ["/outputs"]
        );
    }

    #[test]
    fn outputs_have_names_of_their_own() {
        let wishes = |names: [&str; 2]| -> Vec<Wish> {
            let wish = |name| serde_json::from_value(json!({"name": name, "format": "png"})).expect("a wish");
            names.into_iter().map(wish).collect()
        };
        assert!(distinct(&wishes(["a", "b"])).is_ok());
        assert!(distinct(&wishes(["a", "a"])).is_err());
    }
}
