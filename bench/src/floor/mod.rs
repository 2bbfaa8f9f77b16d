//! The floor: the least that any system must do that takes jobs over HTTP, keeps them in PostgreSQL, carries them by RabbitMQ
//! and keeps their results. It has no features, and loses jobs.

pub(crate) mod http;
mod latency;
mod whole;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::figures::Figures;
use crate::options::Options;
use crate::scenarios::Case;
use crate::site::Database;

/// Rows in a statement.
const BATCH: usize = 500;

/// What the floor does in a case, if it does anything.
pub(crate) async fn measure(options: &Options, case: Case) -> anyhow::Result<Option<Figures>> {
    if matches!(case, Case::Idle | Case::W1 | Case::W2 | Case::W4) {
        return Ok(None);
    }
    let database = Database::create(options).await?;
    let measured = run(options, &database, case).await;
    let dropped = database.drop().await;
    let measured = measured?;
    dropped?;
    Ok(Some(measured))
}

async fn run(options: &Options, database: &Database, case: Case) -> anyhow::Result<Figures> {
    make_table(&mut database.connect().await?).await?;
    match case {
        Case::D => with_queue(options, latency::measure(options, database)).await,
        Case::E => http::measure(options, database, "/hello", 64).await,
        Case::F64 => http::measure(options, database, "/jobs", 64).await,
        Case::F256 => http::measure(options, database, "/jobs", 256).await,
        _ => with_queue(options, whole::measure(options, database)).await,
    }
}

async fn make_table(connection: &mut PgConnection) -> sqlx::Result<()> {
    let table =
        "CREATE TABLE jobs (id uuid PRIMARY KEY, kind text NOT NULL, state smallint NOT NULL, payload json NOT NULL,
         result json, created_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz);
         CREATE INDEX jobs_live ON jobs (state, created_at) WHERE state < 2";
    sqlx::raw_sql(table).execute(connection).await.map(drop)
}

async fn insert(connection: &mut PgConnection, ids: &[Uuid], payloads: &[String]) -> sqlx::Result<()> {
    let insert = "INSERT INTO jobs (id, kind, state, payload)
         SELECT id, 'echo', 0, payload::json FROM unnest($1::uuid[], $2::text[]) t (id, payload)";
    sqlx::query(insert).bind(ids).bind(payloads).execute(connection).await.map(drop)
}

async fn complete(connection: &mut PgConnection, ids: &[Uuid]) -> sqlx::Result<u64> {
    let results = vec![r#"{"ok":true,"n":1}"#; ids.len()];
    let complete = "UPDATE jobs j SET state = 2, result = t.result::json, finished_at = now()
         FROM unnest($1::uuid[], $2::text[]) t (id, result) WHERE j.id = t.id AND j.state < 2";
    Ok(sqlx::query(complete).bind(ids).bind(results).execute(connection).await?.rows_affected())
}

const QUEUE: &str = "offload-bench.floor";

/// Makes the queue anew, and deletes it at the end.
async fn with_queue(options: &Options, work: impl Future<Output = anyhow::Result<Figures>>) -> anyhow::Result<Figures> {
    let connection = connect(options).await?;
    let channel = connection.create_channel().await?;
    channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), arguments).await?;
    let figures = work.await;
    channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await?;
    connection.close(200, "done".into()).await?;
    figures
}

async fn connect(options: &Options) -> lapin::Result<Connection> {
    Connection::connect(options.amqp.as_str(), ConnectionProperties::default()).await
}

/// A channel that confirms.
async fn confirming(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// A message as large as those of systems that put the payload in.
fn message(id: Uuid, payload: &str) -> Vec<u8> {
    format!("{id}{payload:<250}").into_bytes()
}

/// The id in a message.
fn id_of(message: &[u8]) -> anyhow::Result<Uuid> {
    anyhow::ensure!(message.len() > 36, "a message that is not the floor's");
    Ok(Uuid::try_parse_ascii(&message[..36])?)
}

/// Publishes one message; answers what waits for its confirmation.
async fn publish(
    channel: &Channel,
    body: &[u8],
) -> lapin::Result<impl Future<Output = lapin::Result<Confirmation>> + use<>> {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let promise =
        channel.basic_publish("".into(), QUEUE.into(), BasicPublishOptions::default(), body, properties).await?;
    Ok(promise)
}
