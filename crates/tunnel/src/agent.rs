//! The node's end: calls a server, and answers what it asks.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use grpc::{Client, Messages};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    BoxFuture, NodeStreams, ServerEnd,
    server::{CARRY, LISTEN, VERSION},
    wire::{self, v1},
};

/// Streams a connection. Each may leave so much unread that four fill what a
/// connection may have unread ([`crate::SETTINGS`]), so three that nobody reads
/// hold up no other.
const STREAMS_MAX: usize = 3;
/// How long a server is waited for that does not say that all is answered: one of before
/// version 1 had a second message.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// A connection to a server.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Opens a connection to the server, with the node's certificate.
pub type Dial = Arc<dyn Fn() -> BoxFuture<Result<Box<dyn Io>, String>> + Send + Sync>;

/// The connections that streams go over; each ends with its last user.
struct Pool {
    dial: Dial,
    open: Mutex<Vec<Weak<Client>>>,
}

impl Pool {
    async fn connect(&self) -> Result<Arc<Client>, String> {
        let io = (self.dial)().await?;
        let client = Client::start_with(io, crate::SETTINGS).await;
        let client = Arc::new(client.map_err(|error| error.to_string())?);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|weak| weak.strong_count() > 0);
        open.push(Arc::downgrade(&client));
        Ok(client)
    }

    /// One with room for a stream.
    async fn get(&self) -> Result<Arc<Client>, String> {
        let found = {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let has_room = |weak: &&Weak<Client>| weak.strong_count() <= STREAMS_MAX;
            let usable = |client: &Arc<Client>| client.is_open();
            open.iter().filter(has_room).find_map(|weak| weak.upgrade().filter(usable))
        };
        match found {
            Some(client) => Ok(client),
            None => self.connect().await,
        }
    }
}

fn message(message: &impl prost::Message) -> Result<Bytes, grpc::Status> {
    Ok(message.encode_to_vec().into())
}

async fn call(client: &Client, path: &str, messages: Messages) -> Result<Messages, String> {
    // Each clone makes calls on the same connection.
    let answer = client.clone().call(path, messages).await;
    answer.map_err(|error| error.to_string())
}

/// Lets a server reach `node` until the connection ends; `up` is called once it
/// can. Once `leave` completes, which is when the server can do so by another call, this
/// one takes nothing new and ends. Streams go on over their connections, which end with
/// the last of them.
///
/// # Errors
/// Why it ended, or could not be made.
pub async fn serve(
    dial: Dial,
    node: Arc<dyn NodeStreams>,
    up: impl FnOnce(),
    leave: impl Future<Output = ()> + Send + 'static,
) -> Result<(), String> {
    let pool = Arc::new(Pool { dial, open: Mutex::default() });
    let client = pool.connect().await?;
    let leave = leave.boxed().shared();
    let left = leave.clone();
    let hello = || message(&v1::ListenRequest { version: VERSION });
    let goodbye = stream::once(async move {
        left.await;
        hello()
    });
    let said = stream::once(async move { hello() }).chain(goodbye);
    let wishes = call(&client, LISTEN, Box::pin(said)).await?;
    up();
    let over = async {
        leave.await;
        tokio::time::sleep(LEAVE_MAX).await;
    };
    let mut wishes = wishes.take_until(Box::pin(over));
    while let Some(wish) = wishes.next().await {
        let wish = wish.map_err(|status| status.to_string())?;
        let wish = v1::Open::decode(wish).map_err(|error| error.to_string())?;
        let (pool, node) = (pool.clone(), node.clone());
        tokio::spawn(async move {
            if let Err(error) = answer(&pool, &*node, wish).await {
                tracing::debug!(%error, "a stream of the tunnel ended");
            }
        });
    }
    Ok(())
}

async fn answer(pool: &Pool, node: &dyn NodeStreams, wish: v1::Open) -> Result<(), String> {
    let id = wish.id;
    let opened = match wire::opened(wish) {
        Ok(open) => node.open(open).await,
        Err(error) => Err(error),
    };
    let client = pool.get().await?;
    let ServerEnd { input, output } = match opened {
        Ok(end) => end,
        Err(error) => {
            let refusal = message(&wire::answer(id, Err(&error)));
            let refusal = Box::pin(stream::once(async move { refusal }));
            return call(&client, CARRY, refusal).await.map(drop);
        }
    };
    let accepted = message(&wire::answer(id, Ok(())));
    let frames = stream::unfold(output, |mut output| async move {
        Some((message(&wire::from_node(output.recv().await?)), output))
    });
    let frames = stream::once(async move { accepted }).chain(frames);
    let mut answers = call(&client, CARRY, Box::pin(frames)).await?;
    while let Some(frame) = answers.next().await {
        let frame = frame.map_err(|status| status.to_string())?;
        let frame = v1::ToNode::decode(frame).map_err(|error| error.to_string())?;
        if let Some(frame) = wire::input(frame)
            && input.send(frame).await.is_err()
        {
            // The node no longer takes input; it may still send.
            while answers.next().await.is_some_and(|frame| frame.is_ok()) {}
            break;
        }
    }
    Ok(())
}
