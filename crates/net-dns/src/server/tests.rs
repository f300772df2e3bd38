use super::*;
use crate::zone::tests::zone;
use hickory_proto::op::{Edns, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::sync::atomic::{AtomicUsize, Ordering};

fn question(name: &str) -> Message {
    let mut message = Message::new(9, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message
}

/// A resolver that knows `count` addresses for every name, counts questions,
/// and, like a real one, cuts UDP answers.
async fn upstream(count: u8) -> (SocketAddr, Arc<AtomicUsize>) {
    let sockets = Sockets::bind(&[[127, 0, 0, 1].into()], 0).await.unwrap();
    let address = sockets.udp[0].local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let (counter, mut buffer) = (asked.clone(), [0; 512]);
    let reply = move |bytes: &[u8]| {
        let request = Message::from_vec(bytes).unwrap();
        let mut reply = reply_to(&request);
        for n in 0..count {
            let data = RData::A(A([192, 0, 2, n].into()));
            reply.add_answer(Record::from_rdata(request.queries[0].name().clone(), 60, data));
        }
        reply
    };
    tokio::spawn(async move {
        loop {
            let (n, client) = sockets.udp[0].recv_from(&mut buffer).await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            // First a forged answer with a wrong ID, which must be passed over.
            let mut forged = reply(&buffer[..n]);
            forged.metadata.id ^= 1;
            forged.answers.clear();
            sockets.udp[0].send_to(&forged.to_vec().unwrap(), client).await.unwrap();
            let bytes = encode(reply(&buffer[..n]), 512);
            sockets.udp[0].send_to(&bytes, client).await.unwrap();
            if !Message::from_vec(&bytes).unwrap().metadata.truncation {
                continue;
            }
            let (mut stream, _) = sockets.tcp[0].accept().await.unwrap();
            let n = stream.read_u16().await.unwrap().into();
            stream.read_exact(&mut buffer[..n]).await.unwrap();
            let bytes = encode(reply(&buffer[..n]), u16::MAX);
            stream.write_u16(bytes.len() as u16).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    });
    (address, asked)
}

async fn start(upstreams: Vec<SocketAddr>) -> (SocketAddr, Arc<Server>) {
    let sockets = Sockets::bind(&[[127, 0, 0, 1].into()], 0).await.unwrap();
    let address = sockets.udp[0].local_addr().unwrap();
    let server = Server::new(Arc::new(RwLock::new(zone())), upstreams);
    tokio::spawn(server.clone().serve(sockets));
    (address, server)
}

async fn ask_udp(server: SocketAddr, message: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&message.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = vec![0; 4096];
    let n = socket.recv(&mut buffer).await.unwrap();
    assert!(n <= udp_limit(message).into());
    Message::from_vec(&buffer[..n]).unwrap()
}

async fn ask_tcp(server: SocketAddr, messages: &[Message]) -> Vec<Message> {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let mut replies = Vec::new();
    for message in messages {
        let bytes = message.to_vec().unwrap();
        stream.write_u16(bytes.len() as u16).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut buffer = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut buffer).await.unwrap();
        replies.push(Message::from_vec(&buffer).unwrap());
    }
    replies
}

#[tokio::test]
async fn the_zone_is_served_over_both_transports() {
    let (server, _) = start(Vec::new()).await;
    let message = question("web.default.svc.cluster.local.");
    let reply = ask_udp(server, &message).await;
    assert_eq!((reply.metadata.id, reply.answers.len()), (9, 1));
    let replies = ask_tcp(server, &[message.clone(), message]).await;
    assert!(replies.iter().all(|r| r.answers.len() == 1));
}

#[tokio::test]
async fn noise_is_survived() {
    let (server, _) = start(Vec::new()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for noise in [&b""[..], b"x", &[0xff; 600]] {
        socket.send_to(noise, server).await.unwrap();
    }
    TcpStream::connect(server).await.unwrap().write_all(&[0, 1, 0]).await.unwrap();
    assert_eq!(ask_udp(server, &question("web.default.svc.cluster.local.")).await.answers.len(), 1);
}

#[tokio::test]
async fn other_names_are_forwarded_and_remembered() {
    let (upstream, asked) = upstream(2).await;
    let (server, handle) = start(vec![upstream]).await;
    for name in ["example.org.", "Example.ORG.", "far.other.svc.cluster.local."] {
        let reply = ask_udp(server, &question(name)).await;
        assert!(reply.edns.is_none() && !reply.metadata.authoritative || name.starts_with("far"));
        assert_eq!(reply.answers.iter().filter(|r| r.record_type() == RecordType::A).count(), 2);
        assert_eq!(reply.queries, question(name).queries);
    }
    // The ExternalName leads to example.org too.
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // Nobody upstream any more: what is remembered stays, the rest fails.
    handle.set_upstreams(Vec::new());
    assert_eq!(ask_udp(server, &question("example.org.")).await.answers.len(), 2);
    let reply = ask_udp(server, &question("example.net.")).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    // Others are asked anew.
    handle.set_upstreams(vec![upstream]);
    assert_eq!(ask_udp(server, &question("example.org.")).await.answers.len(), 2);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_long_answer_comes_over_tcp_and_is_cut_for_the_client() {
    let (upstream, _) = upstream(100).await;
    let (server, _) = start(vec![upstream]).await;
    let mut message = question("example.org.");
    let reply = ask_udp(server, &message).await;
    assert!(reply.metadata.truncation && reply.answers.len() < 40);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    message.set_edns(edns);
    let reply = ask_udp(server, &message).await;
    assert!(reply.metadata.truncation && reply.answers.len() > 40 && reply.edns.is_some());
    assert_eq!(ask_tcp(server, &[message]).await[0].answers.len(), 100);
}

#[tokio::test]
async fn a_dead_resolver_is_passed_by() {
    // Nothing listens there: the kernel refuses at once.
    let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (upstream, asked) = upstream(1).await;
    let (server, _) = start(vec![dead, upstream]).await;
    for n in 1..4 {
        let reply = ask_udp(server, &question(&format!("n{n}.example.org."))).await;
        assert_eq!((reply.answers.len(), asked.load(Ordering::SeqCst)), (1, n));
    }
}

#[tokio::test]
async fn an_address_that_is_not_there_is_named() {
    let error = Sockets::bind(&["192.0.2.77".parse().unwrap()], 53).await.unwrap_err();
    assert!(error.to_string().contains("192.0.2.77"), "{error}");
}
