//! The same HTTP stack with next to nothing behind it: in a process of its own, like the API.

use std::io::Write;

use anyhow::Context;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use offload_common::batch::Batcher;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::{BATCH, insert};
use crate::cpu::Cpu;
use crate::figures::Figures;
use crate::load::{self, Until};
use crate::options::Options;
use crate::process::Process;
use crate::site::Database;
use crate::{http, scenarios};

/// Statements at once.
const WRITERS: usize = 2;

/// Asks it on so many connections.
pub(super) async fn measure(
    options: &Options,
    database: &Database,
    path: &'static str,
    connections: usize,
) -> anyhow::Result<Figures> {
    let (folder, program) = (tempfile::tempdir()?, std::env::current_exe()?);
    let environment = [("DATABASE_URL".to_owned(), database.url.clone())];
    let server = Process::start(&program, folder.path(), &environment, &["floor"], true).await?;
    let (address, pid) = (server.address.context("it says where it listens")?, server.pid().context("it runs")?);
    let (status, request): (u16, fn(usize) -> Vec<u8>) = match path {
        "/hello" => (200, |_| http::get("/hello")),
        _ => (202, |n| http::post("/jobs", "application/json", "", &scenarios::submission(n))),
    };
    load::run(address, connections, Until::Time(options.time(0.5)), status, request).await?;
    let cpu = Cpu::read(&[pid], &[]);
    let loaded = load::run(address, connections, Until::Time(options.time(5.0)), status, request).await?;
    let cpu_us = Cpu::read(&[pid], &[]).zip(cpu).map(|(now, then)| now.per_job(then, loaded.requests));
    server.stop().await?;
    Ok(Figures { cpu_us, ..Figures::rate(loaded.requests, loaded.elapsed).latencies(loaded.times) })
}

/// A submission, as far as the floor reads it.
#[derive(Deserialize)]
struct Submission {
    #[allow(dead_code)]
    kind: String,
    payload: Box<RawValue>,
}

#[derive(Serialize)]
struct Accepted {
    id: Uuid,
}

type Intake = Batcher<(Uuid, String), bool>;

/// Serves until it is killed.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL")?;
    let pool = PgPoolOptions::new().max_connections(WRITERS as u32).test_before_acquire(false).connect(&url).await?;
    let intake: Intake = Batcher::spawn(WRITERS, BATCH, move |batch: Vec<(Uuid, String)>| {
        let pool = pool.clone();
        async move {
            let count = batch.len();
            let (ids, payloads): (Vec<Uuid>, Vec<String>) = batch.into_iter().unzip();
            let inserted = async { insert(&mut *pool.acquire().await?, &ids, &payloads).await };
            vec![inserted.await.is_ok(); count]
        }
    });
    let routes = Router::new().route("/hello", get(async || "hello")).route("/jobs", post(accept)).with_state(intake);
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    writeln!(std::io::stdout(), "the floor listens on http://{}", listener.local_addr()?)?;
    axum::serve(listener, routes).await?;
    Ok(())
}

async fn accept(State(intake): State<Intake>, Json(job): Json<Submission>) -> (axum::http::StatusCode, Json<Accepted>) {
    use axum::http::StatusCode;
    let id = Uuid::now_v7();
    let inserted = intake.submit((id, job.payload.get().to_owned())).await;
    let status = if inserted == Ok(true) { StatusCode::ACCEPTED } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Accepted { id }))
}
