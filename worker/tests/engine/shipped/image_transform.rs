//! `image.transform`, as jobs of a real worker.

use image::{GenericImageView, ImageFormat};
use serde_json::json;

use super::{download, failure, result, sample, upload, worker};
use crate::engine::support::Bench;

#[tokio::test]
async fn several_images_come_of_one_photograph_that_lies_on_its_side() {
    let bench = Bench::new().await;
    let _worker = worker(&bench);
    let source = upload(&bench, "image/jpeg", sample("valley-portrait.jpg")).await;
    let payload = json!({"source": {"file": source}, "outputs": [
        {"name": "small", "format": "webp", "quality": 70,
         "operations": [{"op": "resize", "width": 200, "height": 200, "mode": "fit"}]},
        {"name": "square", "format": "png",
         "operations": [{"op": "resize", "width": 64, "height": 64, "mode": "fill"}, {"op": "grayscale"}]},
        {"name": "upright", "format": "jpeg"},
    ]});
    let result = result(&bench, "image.transform", payload).await;
    for (output, (name, width, height, format)) in result["outputs"].as_array().expect("a list").iter().zip([
        ("small", 150, 200, ImageFormat::WebP),
        ("square", 64, 64, ImageFormat::Png),
        ("upright", 900, 1200, ImageFormat::Jpeg),
    ]) {
        assert_eq!(
            (&output["name"], &output["width"], &output["height"]),
            (&json!(name), &json!(width), &json!(height))
        );
        assert_eq!(output["content_type"], format.to_mime_type());
        let file = download(&bench, output["file"].as_str().expect("an id").parse().expect("an id")).await;
        assert_eq!(output["bytes"], file.len());
        let image = image::load_from_memory_with_format(&file, format).expect("readable");
        assert_eq!(image.dimensions(), (width, height));
        // The sky is on top.
        let brightness = |y| image.get_pixel(width / 2, y).0[2];
        assert!(brightness(height / 20) > brightness(height - 2), "{name}");
    }
    assert_eq!(result["outputs"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn what_cannot_be_done_fails_for_good() {
    let bench = Bench::new().await;
    let _worker = worker(&bench);
    let whole = sample("dunes-noon.jpg");
    let broken = upload(&bench, "image/jpeg", whole[..whole.len() / 2].to_vec()).await;
    let table = upload(&bench, "image/png", sample("orders.csv")).await;
    let photograph = upload(&bench, "image/jpeg", whole).await;
    let output = json!({"name": "a", "format": "png"});
    let outside = json!({"name": "a", "format": "png", "operations": [
        {"op": "crop", "x": 1000, "y": 0, "width": 1000, "height": 10},
    ]});
    for (file, outputs, expected) in [
        (broken, json!([output]), "broken_image"),
        (table, json!([output]), "unsupported_image"),
        (photograph, json!([outside]), "invalid_operation"),
        (photograph, json!([output, output]), "duplicate_output"),
        (offload_common::job::FileId::new(), json!([output]), "file_not_found"),
    ] {
        let (code, _) = failure(&bench, "image.transform", json!({"source": {"file": file}, "outputs": outputs})).await;
        assert_eq!(code, expected);
    }
}
