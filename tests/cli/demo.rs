//! `offload demo` from its start to its table.

use std::fs;

use crate::program::{offload, run};

#[test]
fn every_job_succeeds_and_the_files_are_where_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let ran = run(offload(folder.path(), &["demo", "--images", "4", "--data", "here"]), "");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("9 of 9 jobs succeeded"), "{}", ran.out);
    for kind in ["echo", "image.transform", "http.call", "table.import", "demo.words"] {
        assert!(ran.out.contains(kind), "{kind} is not in {}", ran.out);
    }
    let words = fs::read_to_string(folder.path().join("here/outputs/words.json")).expect("written");
    assert_eq!(words, r#"{"words": 10}"#);
    let thumbnails = fs::read_dir(folder.path().join("here/outputs/thumbnails")).expect("a folder");
    let sizes: Vec<u64> = thumbnails.map(|file| file.expect("readable").metadata().expect("readable").len()).collect();
    assert_eq!(sizes.len(), 4);
    assert!(sizes.iter().all(|bytes| *bytes > 100), "{sizes:?}");
    assert!(ran.err.contains("thumbnails: 4 of 4"), "{}", ran.err);
}
