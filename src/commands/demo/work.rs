//! What the demo has done: one job of each kind that ships, and a set of thumbnails.

use offload_common::RawJson;
use offload_common::job::FileId;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use crate::client::Submission;

/// A job, and what the demo calls it.
pub(super) struct Planned {
    /// For people, and for the names of its output files.
    pub(super) name: String,
    /// The job.
    pub(super) job: Submission,
}

/// The tag of every job of the set.
pub(super) const SET: &str = "thumbnails";

/// One job of each kind. `photo` and `table` are uploaded files, `server` is the demo's own address.
pub(super) fn one_of_each(photo: FileId, table: FileId, server: &str) -> serde_json::Result<Vec<Planned>> {
    let resize = |width: u32| json!({ "op": "resize", "width": width, "height": width, "mode": "fit" });
    let square = json!({ "op": "resize", "width": 256, "height": 256, "mode": "fill" });
    let column = |(name, kind): (&str, &str)| json!({ "name": name, "type": kind });
    let columns: Vec<Value> = COLUMNS.into_iter().map(column).collect();
    let kinds = [
        ("greeting", "echo", json!({ "value": { "hello": "world" }, "sleep_seconds": 0.5 })),
        (
            "photo",
            "image.transform",
            json!({ "source": { "file": photo }, "outputs": [
                { "name": "large", "format": "jpeg", "quality": 85, "operations": [resize(1024)] },
                { "name": "medium", "format": "webp", "quality": 80, "operations": [resize(640)] },
                { "name": "square", "format": "png", "operations": [square] },
            ] }),
        ),
        ("request", "http.call", json!({ "method": "GET", "url": format!("{server}/v1/kinds") })),
        (
            "import",
            "table.import",
            json!({ "source": { "file": table }, "table": "demo_orders", "format": "csv", "create": true, "columns": columns }),
        ),
        ("words", "demo.words", json!({ "text": "A line of shell is a kind of job, too." })),
    ];
    let planned = kinds.into_iter().map(|(name, kind, payload)| {
        Ok(Planned { name: name.to_owned(), job: Submission::new(kind, to_raw_value(&payload)?) })
    });
    planned.collect()
}

/// The columns of the sample table.
const COLUMNS: [(&str, &str); 11] = [
    ("order_id", "integer"),
    ("ordered_at", "timestamp"),
    ("customer", "text"),
    ("email", "text"),
    ("country", "text"),
    ("product", "text"),
    ("quantity", "integer"),
    ("unit_price", "numeric"),
    ("paid", "boolean"),
    ("delivered_on", "date"),
    ("note", "text"),
];

/// The job that makes one thumbnail.
pub(super) fn thumbnail(photo: FileId, number: usize) -> serde_json::Result<Planned> {
    let payload: RawJson = to_raw_value(&json!({ "source": { "file": photo }, "outputs": [
        { "name": "thumbnail", "format": "webp", "quality": 75,
          "operations": [{ "op": "resize", "width": 160, "height": 160, "mode": "fill" }] },
    ] }))?;
    let job = Submission { tags: vec![SET.to_owned()], ..Submission::new("image.transform", payload) };
    Ok(Planned { name: format!("{number:03}"), job })
}
