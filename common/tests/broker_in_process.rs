//! The in-process broker against the suite that every broker passes.

use std::sync::Arc;

use async_trait::async_trait;
use offload_common::broker::Broker;
use offload_common::broker::in_process::InProcessBroker;
use offload_common::testing::broker_conformance::BrokerHarness;

struct InProcess(InProcessBroker);

#[async_trait]
impl BrokerHarness for InProcess {
    async fn start() -> Self {
        Self(InProcessBroker::new())
    }

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::new(self.0.clone())
    }

    async fn disconnect(&self) {
        self.0.drop_connections();
    }

    async fn finish(self) {}
}

offload_common::broker_conformance!(broker_in_process, InProcess);
