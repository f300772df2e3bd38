//! An API server over a store in memory, plain HTTP on loopback, everybody an
//! administrator: to try clients against. `serve [port]`.

use std::sync::Arc;

use api_registry::{
    AdmitAll, Authenticator, Authorizer, BoxFuture, Credentials, Decision, NoExtensions, Registry,
    RequestAttributes, Sources, UserInfo,
};
use api_server::{ApiServer, Parts, Version};
use ring::rand::{SecureRandom, SystemRandom};

struct Everybody;

impl Authenticator for Everybody {
    fn authenticate<'a>(
        &'a self,
        _: Credentials<'a>,
    ) -> BoxFuture<'a, Result<Option<Arc<UserInfo>>, api_object::Status>> {
        let user = UserInfo {
            name: "admin".into(),
            groups: vec!["system:masters".into(), "system:authenticated".into()],
            ..UserInfo::default()
        };
        Box::pin(async move { Ok(Some(Arc::new(user))) })
    }
}

impl Authorizer for Everybody {
    fn authorize<'a>(&'a self, _: &'a RequestAttributes) -> BoxFuture<'a, Decision> {
        Box::pin(async { Decision::Allow })
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "8001".into());
    let address = format!("127.0.0.1:{port}");
    let random = SystemRandom::new();
    let now: Arc<dyn Fn() -> jiff::Timestamp + Send + Sync> = Arc::new(jiff::Timestamp::now);
    let sources = Sources {
        now: now.clone(),
        random: Arc::new(move || {
            let mut bytes = [0; 16];
            random.fill(&mut bytes).expect("the kernel has random bytes");
            u128::from_ne_bytes(bytes)
        }),
    };
    let store = Arc::new(store::MemoryStore::default());
    let catalogue = Arc::new(api_kinds::catalogue());
    let registry = Registry::new(store, Arc::new(AdmitAll), catalogue.clone(), sources, 1);
    let server = ApiServer::new(Parts {
        catalogue,
        registry: Arc::new(registry),
        authenticator: Arc::new(Everybody),
        authorizer: Arc::new(Everybody),
        nodes: Arc::default(),
        extensions: Arc::new(NoExtensions),
        metrics: metrics::Table::new(),
        version: Version::default(),
        now,
        descriptions: api_kinds::descriptions,
        published: Vec::new(),
        address: address.clone(),
    });
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("serving on http://{address}");
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    server.serve(listener, None, stop).await;
    Ok(())
}
