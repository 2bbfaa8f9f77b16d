//! The benchmark itself works: every case, as short as can be. What it measures is not looked at.

use std::process::Command;

fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run the tests through scripts/test, which sets it"))
}

#[test]
fn every_case_can_be_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("samples.json");
    let output = Command::new(env!("CARGO_BIN_EXE_offload-bench"))
        .args(["--cases", "a,c,d,e,f64,f256,idle,w1", "--rounds", "1", "--scale", "0.001"])
        .args(["--finished", "50", "--scheduled", "50", "--backlog", "500"])
        .args(["--peer", r#"d:other=echo '{"p50_ms": 1000}'"#])
        .arg("--json")
        .arg(&file)
        .env("DATABASE_URL", server("OFFLOAD_TEST_DATABASE_URL"))
        .env("AMQP_URL", server("OFFLOAD_TEST_AMQP_URL"))
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let table = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        table.lines().count(),
        1 + 6 * 2 + 2 + 1,
        "a head, six cases with a floor, two without, a peer:\n{table}"
    );
    let samples: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(file).expect("written")).expect("JSON");
    let measured = |name: &str| samples.iter().filter(|sample| sample[name].as_f64().is_some_and(|n| n > 0.0)).count();
    assert_eq!((measured("rate"), measured("p50_ms")), (5 * 2 + 1, 4 * 2 + 1));
}
