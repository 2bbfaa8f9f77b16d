//! `GET /problems/{name}`: what a problem type means.

use axum::Json;
use axum::extract::RawPathParams;
use serde_json::{Value, json};

use crate::openapi::{Answer, Operation, Parameter, Schemas};
use crate::problem::{Entry, Problem, ProblemType};
use crate::routes::Endpoint;

pub(in crate::routes) fn endpoint() -> Endpoint {
    Endpoint::get("/problems/{name}", handle, describe)
}

fn describe(_: &mut Schemas) -> Operation {
    let names: Vec<_> = ProblemType::ALL.iter().map(|kind| kind.entry().name).collect();
    let text = json!({ "type": "string" });
    let body = json!({
        "type": "object",
        "required": ["type", "title", "status", "description"],
        "properties": { "type": text, "title": text, "status": { "type": "integer" }, "description": text },
    });
    Operation::new("describeProblem", "server", "What a problem type means")
        .parameter(Parameter::path("name", "The last part of the problem's `type`.", json!({ "enum": names })))
        .problems(&[ProblemType::NotFound])
        .answer(Answer::json(200, "The type's meaning.", body))
}

async fn handle(parameters: RawPathParams) -> Result<Json<Value>, Problem> {
    let name = parameters.iter().next().map_or("", |(_, name)| name);
    let kind = ProblemType::named(name)
        .ok_or_else(|| Problem::not_found(format_args!("`{name}` is not a problem type; /openapi.json lists them")))?;
    let Entry { status, title, description, .. } = kind.entry();
    Ok(Json(json!({ "type": kind.uri(), "title": title, "status": status.as_u16(), "description": description })))
}

#[cfg(test)]
mod tests {
    use crate::problem::ProblemType;
    use crate::testing::TestApp;

    #[tokio::test]
    async fn every_type_leads_to_its_meaning() {
        let app = TestApp::start().await;
        for kind in ProblemType::ALL {
            let answer = app.get(&kind.uri()).await;
            assert_eq!(answer.json()["status"], kind.entry().status.as_u16(), "{kind:?}");
            assert_eq!(answer.json()["type"], kind.uri());
        }
        app.get("/problems/nonesuch").await.problem(ProblemType::NotFound);
    }
}
