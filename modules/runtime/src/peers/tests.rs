//! Two modules over real sockets in a temporary folder, and what goes wrong between them.

mod rig;

use std::io::Write;
use std::time::Duration;

use ipc_proto::frame::{self, Frame, Outcome, Settlement, Window};
use ipc_proto::lifeline::{Load, QueueBounds};
use ipc_proto::{Content, Group, Instance, Message, Module, Operation, Resource};
use tokio::time::timeout;

use super::{RequestError, SendError};
use crate::inbox::Event;
use rig::{LIMIT, Node, Process, query, read_frame, until_closed};

/// Settles every message and reports its content's number.
async fn settle_all(mut inbox: crate::Inbox, seen: std::sync::mpsc::SyncSender<u64>) {
    loop {
        if let Event::Message(delivery) = inbox.next().await {
            let number = delivery.message.content.decode().expect("a number");
            seen.send(number).expect("the test listens");
            delivery.settle();
        }
    }
}

fn number(process: &Process, number: u64) -> Message {
    Message { content: Content::encode(&number).expect("a number is JSON"), ..query(process) }
}

#[tokio::test]
async fn a_message_is_settled_and_its_sender_told() {
    let node = Node::new();
    let (seen, numbers) = std::sync::mpsc::sync_channel(10);
    let _metamanager = node.metamanager(|inbox| settle_all(inbox, seen));
    let edged = node.edged();
    let ticket = edged.peers.send(Module::Metamanager, number(&edged, 7)).await.expect("is sent");
    timeout(LIMIT, ticket.settled()).await.expect("in time").expect("is settled");
    assert_eq!(numbers.recv_timeout(LIMIT), Ok(7));
    rig::until(|| edged.peers.load() == Load::default()).await;
}

#[tokio::test]
async fn messages_outlive_the_death_of_their_receiver_in_order() {
    const COUNT: u64 = 3000;
    let node = Node::new();
    let edged = node.edged();
    let feeder = {
        let peers = edged.peers.clone();
        let first = number(&edged, 0);
        tokio::spawn(async move {
            let mut tickets = Vec::new();
            for at in 0..COUNT {
                let content = Content::encode(&at).expect("a number is JSON");
                let id = crate::message_id();
                let mut message = Message { content, ..first.clone() };
                message.header.id = id;
                tickets.push(peers.send(Module::Metamanager, message).await.expect("is sent"));
            }
            tickets
        })
    };
    // Three processes die after some messages; the fourth stays.
    let mut next = 0;
    for lives_for in [10, 500, 1] {
        let (seen, numbers) = std::sync::mpsc::sync_channel(10_000);
        let metamanager = node.metamanager(|inbox| settle_all(inbox, seen));
        let mut taken = take(&numbers, lives_for).await;
        metamanager.kill();
        taken.extend(numbers.try_iter());
        // What the earlier process had taken may come again, but nothing is left out.
        assert!(taken[0] <= next, "{} comes first, expected {next} or less", taken[0]);
        assert!(taken.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{taken:?}");
        next = next.max(taken[taken.len() - 1] + 1);
    }
    let (seen, _numbers) = std::sync::mpsc::sync_channel(10_000);
    let _metamanager = node.metamanager(|inbox| settle_all(inbox, seen));
    for ticket in timeout(LIMIT, feeder).await.expect("in time").expect("feeds") {
        timeout(LIMIT, ticket.settled()).await.expect("in time").expect("is settled");
    }
}

/// Receives without blocking the runtime that sends.
async fn take(numbers: &std::sync::mpsc::Receiver<u64>, count: usize) -> Vec<u64> {
    let mut taken = Vec::new();
    let all = async {
        while taken.len() < count {
            match numbers.try_recv() {
                Ok(number) => taken.push(number),
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    timeout(LIMIT, all).await.expect("in time");
    taken
}

#[tokio::test]
async fn a_request_is_answered() {
    let node = Node::new();
    let _metamanager = node.metamanager(rig::answer_all);
    let edged = node.edged();
    let question = number(&edged, 42);
    let id = question.header.id.clone();
    let answer = edged.peers.request(Module::Metamanager, question, LIMIT).await.expect("answers");
    assert_eq!(answer.message.header.parent, Some(id));
    assert_eq!(answer.message.content.decode::<u64>().expect("a number"), 42);
}

#[tokio::test]
async fn what_is_not_supported_is_answered_so() {
    let node = Node::new();
    let _metamanager = node.metamanager(|mut inbox: crate::Inbox| async move {
        loop {
            if let Event::Message(delivery) = inbox.next().await {
                delivery.unsupported();
            }
        }
    });
    let edged = node.edged();
    let error = edged.peers.request(Module::Metamanager, query(&edged), LIMIT).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "metamanager answered with an error: \"unsupported: operation 'query' on 'default/pod/p'\""
    );
    let notice = edged.peers.send(Module::Metamanager, query(&edged)).await.expect("is sent");
    timeout(LIMIT, notice.settled()).await.expect("in time").expect("is settled");
}

#[tokio::test]
async fn a_request_ends_by_its_time_out_and_its_late_answer_harms_nothing() {
    let node = Node::new();
    let mut stranger = node.stranger_as_edged(Instance(1));
    let process = node.metamanager_alone(&mut stranger);
    let wait = Duration::from_millis(20);
    let error =
        process.peers.request(Module::Edged, rig::insert(&process), wait).await.unwrap_err();
    assert_eq!(error, RequestError::TimedOut { to: Module::Edged, after: wait });
    let Frame::Message(sequence, question) = read_frame(&mut stranger) else { panic!("a message") };
    rig::answer(&mut stranger, 1, &question);
    let settled = Settlement { first: 1, count: 1, outcome: Outcome::Done };
    assert_eq!(read_frame(&mut stranger), Frame::Settle(vec![settled]));
    rig::settle(&mut stranger, sequence);
    rig::until(|| process.peers.load() == Load::default()).await;
}

#[tokio::test]
async fn a_request_outlives_a_cut_but_not_the_death_of_the_peer() {
    let node = Node::new();
    let mut stranger = node.stranger_as_edged(Instance(1));
    let process = node.metamanager_alone(&mut stranger);
    let peers = process.peers.clone();
    let insert = rig::insert(&process);
    let request = tokio::spawn(async move { peers.request(Module::Edged, insert, LIMIT).await });
    let question = rig::read_in_background(&mut stranger).await;
    drop(stranger);
    // The same process dials again: it gets the message again, and its answer counts.
    let mut stranger = node.stranger_as_edged(Instance(1));
    rig::welcomed(&mut stranger).await;
    assert_eq!(rig::read_in_background(&mut stranger).await, question);
    let Frame::Message(_, message) = question else { panic!("a message") };
    rig::answer(&mut stranger, 1, &message);
    timeout(LIMIT, request).await.expect("in time").expect("no panic").expect("is answered");

    let peers = process.peers.clone();
    let insert = rig::insert(&process);
    let request = tokio::spawn(async move { peers.request(Module::Edged, insert, LIMIT).await });
    rig::until(|| process.peers.load().unsettled == 2).await;
    drop(stranger);
    let mut stranger = node.stranger_as_edged(Instance(2));
    rig::welcomed(&mut stranger).await;
    let error = timeout(LIMIT, request).await.expect("in time").expect("no panic").unwrap_err();
    assert!(matches!(error, RequestError::PeerDied { to: Module::Edged, .. }), "{error}");
}

#[tokio::test]
async fn a_request_ends_when_the_peer_does_not_come_back() {
    let node = Node::new();
    let mut stranger = node.stranger_as_edged(Instance(1));
    let process = node.metamanager_alone(&mut stranger);
    let peers = process.peers.clone();
    let insert = rig::insert(&process);
    let request = tokio::spawn(async move { peers.request(Module::Edged, insert, LIMIT).await });
    rig::until(|| process.peers.load().unsettled == 1).await;
    drop(stranger);
    let error = timeout(LIMIT, request).await.expect("in time").expect("no panic").unwrap_err();
    assert!(matches!(error, RequestError::PeerDied { to: Module::Edged, .. }), "{error}");
    // Nobody waits for it any more: it is not kept for the next process.
    rig::until(|| process.peers.load() == Load::default()).await;
}

#[tokio::test]
async fn a_refusal_reaches_the_sender() {
    let node = Node::new();
    let _metamanager = node.metamanager(|mut inbox: crate::Inbox| async move {
        loop {
            if let Event::Message(delivery) = inbox.next().await {
                delivery.refuse("not today");
            }
        }
    });
    let edged = node.edged();
    let ticket = edged.peers.send(Module::Metamanager, query(&edged)).await.expect("is sent");
    let refused = RequestError::Refused { to: Module::Metamanager, reason: "not today".into() };
    assert_eq!(timeout(LIMIT, ticket.settled()).await.expect("in time"), Err(refused.clone()));
    let request = edged.peers.request(Module::Metamanager, query(&edged), LIMIT);
    assert_eq!(request.await.expect_err("it is refused"), refused);
}

#[tokio::test]
async fn the_allow_list_holds_at_both_ends() {
    let node = Node::new();
    let (seen, _numbers) = std::sync::mpsc::sync_channel(10);
    let _metamanager = node.metamanager(|inbox| settle_all(inbox, seen));
    let edged = node.edged();
    let mut forbidden = query(&edged);
    forbidden.route.operation = Operation::Keepalive;
    let sent = edged.peers.send(Module::Metamanager, forbidden.clone()).await.unwrap_err();
    assert!(matches!(sent, SendError::NotAllowed(_)), "{sent}");
    let mut stranger = node.stranger_as(Module::Devicetwin, Instance(1));
    rig::welcomed(&mut stranger).await;
    rig::send(&mut stranger, 1, &forbidden);
    let Frame::Settle(settlements) = rig::read_in_background(&mut stranger).await else {
        panic!("a settlement")
    };
    assert!(matches!(settlements[0].outcome, Outcome::Refused(_)), "{settlements:?}");
}

#[tokio::test]
async fn a_peer_that_stops_reading_pushes_back_and_loses_nothing() {
    let node = Node::new();
    let (seen, numbers) = std::sync::mpsc::sync_channel(10_000);
    let bounds = QueueBounds { messages: 100, bytes: 1 << 20 };
    let edged = node.process(Module::Edged, |seat| seat.queue = bounds);
    let mut taken = 0;
    while let Ok(_ticket) = edged.peers.try_send(Module::Metamanager, number(&edged, taken)) {
        taken += 1;
    }
    assert_eq!(taken, 100);
    let blocked = edged.peers.send(Module::Metamanager, number(&edged, taken));
    let mut blocked = std::pin::pin!(blocked);
    assert!(timeout(Duration::from_millis(20), &mut blocked).await.is_err());
    let _metamanager = node.metamanager(|inbox| settle_all(inbox, seen));
    timeout(LIMIT, blocked).await.expect("in time").expect("is sent");
    assert_eq!(take(&numbers, 101).await, (0..101).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_large_message_passes_though_it_is_larger_than_every_window() {
    let node = Node::new();
    let small = Window { messages: 4, bytes: 1000 };
    let _metamanager = node.serve(|seat| seat.window = small, rig::answer_all);
    let edged = node.process(Module::Edged, |seat| {
        seat.window = small;
        seat.queue = QueueBounds { messages: 10, bytes: 10_000 };
    });
    let text = "x".repeat(3 << 20);
    let question = Message { content: Content::text(&text), ..query(&edged) };
    let answer = edged.peers.request(Module::Metamanager, question, LIMIT).await.expect("answers");
    assert_eq!(answer.message.content.decode::<String>().expect("a text"), text);
}

#[tokio::test]
async fn ping_and_echo_are_answered_by_the_main_loop() {
    let node = Node::new();
    let _metamanager = node.metamanager(rig::answer_all);
    let _edgehub = node.process(Module::Edgehub, |_| {});
    let edged = node.edged();
    let ask = |operation, path: &str| {
        let resource = Resource::parse(&Group::Diagnostic, path);
        let content = Content::text("hello");
        let message = edged.peers.message(Group::Diagnostic, operation, resource, content);
        edged.peers.request(Module::Metamanager, message, LIMIT)
    };
    let pong = ask(Operation::Ping, "").await.expect("answers");
    assert_eq!(pong.message.content, Content::NULL);
    for path in ["", "edgehub", "edgehub/metamanager/edged/metamanager"] {
        let echo = ask(Operation::Echo, path).await.expect("answers");
        assert_eq!(echo.message.content, Content::text("hello"), "{path}");
    }
    let error = ask(Operation::Echo, "edgehub/nobody").await.unwrap_err().to_string();
    assert!(error.contains("unknown module 'nobody'"), "{error}");
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_its_own_connection_only() {
    let node = Node::new();
    let _metamanager = node.metamanager(rig::answer_all);
    let edged = node.edged();
    let too_long = (u32::MAX).to_le_bytes();
    let garbage: [&[u8]; 5] =
        [b"GET / HTTP/1.1\r\n\r\n", &too_long, &[0; 4], &[2, 0, 0, 0, 9, 1], &[6, 0, 0]];
    for bytes in garbage {
        // Before the hello, and after it.
        let mut stranger = node.stranger();
        stranger.write_all(bytes).expect("is taken");
        stranger.shutdown(std::net::Shutdown::Write).expect("shuts down");
        until_closed(&mut stranger).await;
        let mut stranger = node.stranger_as(Module::Devicetwin, Instance(1));
        rig::welcomed(&mut stranger).await;
        stranger.write_all(bytes).expect("is taken");
        stranger.shutdown(std::net::Shutdown::Write).expect("shuts down");
        until_closed(&mut stranger).await;
    }
    let message = query(&edged);
    edged.peers.request(Module::Metamanager, message, LIMIT).await.expect("answers");
}

#[tokio::test]
async fn callers_that_are_not_who_they_say_are_told_why() {
    let node = Node::new();
    let _metamanager =
        node.serve(|seat| seat.users[Module::Edgemesh.index()] = 4_000_000, rig::answer_all);
    let refusal = async |bytes: &[u8]| {
        let mut stranger = node.stranger();
        stranger.write_all(bytes).expect("is taken");
        let answer = rig::read_in_background(&mut stranger).await;
        let Frame::Refused(reason) = answer else { panic!("refused, not {answer:?}") };
        reason.into_string()
    };
    let me = rustix::process::getuid().as_raw();
    let hello = |from| frame::hello(&node.hello(from, Instance(1)));
    assert_eq!(
        refusal(&hello(Module::Edgemesh)).await,
        format!("user {me} says it is edgemesh, expected user 4000000")
    );
    let reason = refusal(&hello(Module::Edgestream)).await;
    assert_eq!(reason, "edgestream does not dial metamanager");
    let mut newer = hello(Module::Edged).to_vec();
    newer[frame::LENGTH] = 9;
    assert_eq!(refusal(&newer).await, "frame of protocol version 9, expected 1");
    let astray = frame::Hello { to: Module::Edgehub, ..node.hello(Module::Edged, Instance(1)) };
    let reason = refusal(&frame::hello(&astray)).await;
    assert_eq!(reason, "hello to edgehub, expected to metamanager");
}
