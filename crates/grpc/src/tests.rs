//! Both ends on one pipe.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::{BoxFuture, Call, CallError, Client, Code, Messages, Service, Status, once, serve};

struct Echo;

impl Service for Echo {
    fn call(&self, call: Call) -> BoxFuture<Result<Messages, Status>> {
        Box::pin(async move {
            match call.path.as_str() {
                "/t.Echo/Each" => Ok(call.messages),
                "/t.Echo/Count" => {
                    let count = call.messages.filter(|one| std::future::ready(one.is_ok())).count();
                    Ok(once(count.await.to_string().into()))
                }
                "/t.Echo/Late" => {
                    let bad = Status::new(Code::Aborted, "no, 100 % über");
                    let all = [Ok(Bytes::from_static(b"one")), Err(bad)];
                    Ok(Box::pin(futures_util::stream::iter(all)) as Messages)
                }
                path => Err(Status::unimplemented(path)),
            }
        })
    }
}

async fn client() -> (Client, tokio::task::JoinHandle<()>) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let serving = tokio::spawn(serve(far, Arc::new(Echo), std::future::pending()));
    (Client::start(near).await.expect("both speak it"), serving)
}

#[tokio::test]
async fn calls_are_answered() {
    let (mut client, _) = client().await;
    let large = Bytes::from(vec![7; 3 << 20]);
    assert_eq!(client.unary("/t.Echo/Each", large.clone()).await, Ok(large.clone()));
    assert_eq!(client.unary("/t.Echo/Each", Bytes::new()).await, Ok(Bytes::new()));
    let many: Messages = Box::pin(futures_util::stream::iter((0..9).map({
        let large = large.clone();
        move |_| Ok(large.clone())
    })));
    assert_eq!(client.only("/t.Echo/Count", many).await, Ok("9".into()));
    let unknown = client.unary("/t.Echo/What", Bytes::new()).await;
    let status = Status::new(Code::Unimplemented, "/t.Echo/What is not known here");
    assert_eq!(unknown, Err(CallError::Failed(status)));
    let late = client.unary("/t.Echo/Late", Bytes::new()).await;
    assert_eq!(late, Err(CallError::Failed(Status::new(Code::Aborted, "no, 100 % über"))));
}

#[tokio::test]
async fn a_broken_connection_is_told_apart_from_a_call_that_never_was() {
    let (mut client, serving) = client().await;
    let endless: Messages = Box::pin(futures_util::stream::pending());
    let mut answers = client.call("/t.Echo/Each", endless).await.expect("begun");
    serving.abort();
    let cut = answers.next().await.expect("an end");
    assert_eq!(cut.expect_err("cut off").code, Code::Unavailable);
    let never = client.unary("/t.Echo/Each", Bytes::new()).await;
    assert!(matches!(never, Err(CallError::NotSent(_))), "{never:?}");
    assert!(!client.is_open());
}
