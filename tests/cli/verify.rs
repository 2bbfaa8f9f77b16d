//! `offload verify`: what it takes, what it says, how it ends.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::program::{Ran, Server, offload, run};

fn verify(folder: &Path, arguments: &[&str]) -> Ran {
    run(offload(folder, &[&["verify"], arguments].concat()), "")
}

/// Writes to the embedded database as nothing of Offload's does.
fn tamper(folder: &Path, sql: String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let options = SqliteConnectOptions::new().filename(folder.join("offload.db"));
    runtime.block_on(async {
        let mut connection = options.connect().await.expect("connected");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("tampered");
        connection.close().await.expect("closed");
    });
}

#[test]
fn what_it_cannot_work_with_is_a_usage_error_that_names_it() {
    let server = Server::dev();
    let folder = server.folder.path();
    fs::write(folder.join("ids"), "\n0199f6c2-0000-7000-8000-000000000000\nnonsense\n").expect("written");
    let data = ["--data", ".offload"];
    for (arguments, expected) in [
        (&[][..], "DATABASE_URL is not set"),
        (&["--data", "nowhere"], "there is no database nowhere/offload.db"),
        (&["--data", ".offload", "--ledger", "orders"], "`orders` is not TABLE.COLUMN"),
        (&["--data", ".offload", "--ledger", "orders.job"], "there is no column `job` in a table `orders`"),
        (&["--data", ".offload", "--ledger-kind", "echo"], "--ledger"),
        (&["--data", ".offload", "--accepted", "missing"], "--accepted: missing cannot be read"),
        (&["--data", ".offload", "--accepted", "ids"], "--accepted: ids:3: `nonsense` is not a job's id"),
        (&["--data", ".offload", "--state", "ids"], "--state: ids: line 1 is not one that `offload verify` wrote"),
    ] {
        let ran = verify(folder, arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(expected), "{expected} is not in {}", ran.err);
    }
    assert_eq!(verify(folder, &data).code, Some(0));
}

#[test]
fn a_database_that_is_away_has_a_code_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = offload(folder.path(), &["verify"]);
    // Nothing listens on port 1.
    command.env("DATABASE_URL", "postgres://127.0.0.1:1/d");
    let ran = run(command, "");
    assert_eq!((ran.code, ran.out.as_str()), (Some(69), ""), "{ran:?}");
    assert!(ran.err.contains("the database is not available"), "{}", ran.err);
}

/// The folder is read beside the process that uses it, and after it.
#[test]
fn an_embedded_database_is_audited_while_it_is_used() {
    let data = tempfile::tempdir().expect("a folder");
    let folder = data.path();
    let server = Server::dev_with(&["--data", folder.to_str().expect("readable")], &[]);
    let ids: Vec<String> = (0..3).map(|_| server.submit(&["echo", "{}", "--wait"])).collect();
    fs::write(folder.join("ids"), ids.join("\n")).expect("written");
    let full = ["--data", ".", "--state", "seen", "--accepted", "ids"];
    let clean = verify(folder, &full);
    assert_eq!((clean.code, clean.err.as_str()), (Some(0), ""), "{clean:?}");
    assert!(
        clean.out.starts_with("ok     rows      3 jobs\n") && clean.out.ends_with("nothing is wrong\n"),
        "{clean:?}"
    );

    tamper(folder, format!("UPDATE offload_jobs SET result = NULL WHERE id = x'{}'", ids[1].replace('-', "")));
    let found = verify(folder, &full);
    assert_eq!(found.code, Some(1), "{found:?}");
    assert!(found.out.contains("WRONG  rows      3 jobs\n"), "{}", found.out);
    assert!(found.out.contains(&format!("{}: succeeded without a result", ids[1])), "{}", found.out);
    assert!(found.out.contains("what to do: ") && found.out.ends_with("1 thing is wrong\n"), "{}", found.out);

    server.signal(Signal::TERM);
    assert!(server.ended().success());
    tamper(folder, format!("DELETE FROM offload_jobs WHERE id = x'{}'", ids[1].replace('-', "")));
    let gone = verify(folder, &[&full[..], &["--json"]].concat());
    assert_eq!(gone.code, Some(1), "{gone:?}");
    let document = &gone.json()[0];
    let problems: Vec<_> = document["checks"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|check| check["findings"].as_array().is_some_and(|found| !found.is_empty()))
        .map(|check| (check["check"].as_str(), check["findings"][0]["jobs"][0].as_str()))
        .collect();
    assert_eq!(problems, [(Some("accepted"), Some(&*ids[1])), (Some("history"), Some(&*ids[1]))], "{document:#}");
}
