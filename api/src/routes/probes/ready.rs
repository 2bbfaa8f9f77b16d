//! `GET /readyz`: whether requests should come here.
//!
//! Without the broker, intake goes on: jobs are stored, and workers take them from the database. So only a database
//! that is away, or a shutdown, makes a process unready.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use offload_common::broker::Health;
use serde_json::{Value, json};

use crate::app::App;
use crate::openapi::{Answer, Operation, Schemas};
use crate::problem::{Problem, ProblemType};
use crate::routes::Endpoint;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/readyz", handle, describe)
}

fn describe(_: &mut Schemas) -> Operation {
    let part = json!({
        "type": "object",
        "required": ["status"],
        "properties": { "status": { "enum": ["up", "down"] } },
    });
    let body = json!({
        "type": "object",
        "required": ["status", "database", "broker"],
        "properties": {
            "status": { "enum": ["ready", "degraded"], "description": "`degraded`: the broker is away, and jobs run all the same." },
            "database": part,
            "broker": part,
        },
    });
    Operation::new("ready", "server", "Whether requests should come here")
        .asks_the_database()
        .problems(&[ProblemType::ShuttingDown])
        .answer(Answer::json(200, "Yes.", body))
}

async fn handle(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let broker = match app.broker.health() {
        Health::Up => "up",
        Health::Down(reason) => {
            tracing::debug!(reason, "the broker is away");
            "down"
        }
    };
    if app.stop.is_cancelled() {
        return Err(Problem::shutting_down());
    }
    let parts = |database: &str| (json!({ "status": database }), json!({ "status": broker }));
    app.ask(app.store.ready()).await.map_err(|problem| {
        let (database, broker) = parts("down");
        problem.with("database", database).with("broker", broker)
    })?;
    let (database, broker_part) = parts("up");
    let status = if broker == "up" { "ready" } else { "degraded" };
    Ok(Json(json!({ "status": status, "database": database, "broker": broker_part })))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use offload_common::broker::Broker;
    use offload_common::store::Store;
    use serde_json::json;

    use crate::problem::ProblemType;
    use crate::testing::TestApp;

    #[tokio::test]
    async fn it_is_ready_while_the_database_is_there() {
        let app = TestApp::start().await;
        let answer = app.get("/readyz").await;
        let expected = json!({"status": "ready", "database": {"status": "up"}, "broker": {"status": "up"}});
        assert_eq!((answer.status, answer.json()), (200, expected));
        app.store.close().await;
        let problem = app.get("/readyz").await.problem(ProblemType::DatabaseUnavailable);
        assert_eq!(problem["database"], json!({"status": "down"}));
        assert_eq!(app.get("/livez").await.status, 200);
    }

    #[tokio::test]
    async fn without_its_broker_it_is_ready_all_the_same() {
        let app = TestApp::start().await;
        app.broker.close(Duration::ZERO).await;
        let answer = app.get("/readyz").await;
        let expected = json!({"status": "degraded", "database": {"status": "up"}, "broker": {"status": "down"}});
        assert_eq!((answer.status, answer.json()), (200, expected));
        app.submit(json!({})).await;
    }

    #[tokio::test]
    async fn it_is_not_ready_without_tables_or_on_its_way_out() {
        let app = TestApp::start_with(|settings| settings.migrated = false).await;
        app.get("/readyz").await.problem(ProblemType::DatabaseNotMigrated);
        let app = TestApp::start().await;
        app.stop.cancel();
        app.get("/readyz").await.problem(ProblemType::ShuttingDown);
    }
}
