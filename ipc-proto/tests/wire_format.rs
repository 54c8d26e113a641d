//! The bytes that processes of one version exchange. Two versions run side by side while an upgrade
//! restarts one module after the other, so a change of these bytes must raise a version number:
//! whoever sees a test here fail raises `frame::VERSION` or `lifeline::VERSION` and pins anew.

use bytes::{Bytes, BytesMut};
use ipc_proto::frame::{self, Frame, FrameError, Hello, Outcome, Settlement, Window};
use ipc_proto::lifeline::{self, Confine, LogLevel, QueueBounds, RecordError, Start};
use ipc_proto::lifeline::{Confinement, Fault, Load, ToModule, ToSupervisor, Traffic};
use ipc_proto::module::ModuleSet;
use ipc_proto::{
    Content, Group, Header, Instance, Kind, Message, MessageId, Module, Operation, Resource, Route,
    Scope, Source,
};
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hello() -> Hello {
    Hello {
        from: Module::Edged,
        to: Module::Metamanager,
        instance: Instance(300),
        window: Window { messages: 1024, bytes: 4_194_304 },
    }
}

fn message() -> Message {
    Message {
        header: Header {
            id: MessageId::Uuid([0xab; 16]),
            parent: Some(MessageId::Text("m".into())),
            timestamp: -2,
            resource_version: "42".into(),
            sync: true,
        },
        route: Route {
            source: Source::Edgecontroller,
            group: Group::Resource,
            operation: Operation::Update,
            resource: Resource::object(Scope::Namespace("d".into()), Kind::Pod, "p"),
        },
        content: Content::from_raw(Bytes::from_static(b"{}")),
    }
}

#[test]
fn the_bytes_of_frames_are_pinned() {
    assert_eq!(frame::VERSION, 1);
    assert_eq!(hex(&frame::hello(&hello())), "0c00000001010300ac02800880808002");
    assert_eq!(hex(&frame::refused("no")), "050000000103026e6f");
    let settlements = [
        Settlement { first: 1, count: 2, outcome: Outcome::Done },
        Settlement { first: 300, count: 1, outcome: Outcome::Refused("r".into()) },
    ];
    assert_eq!(hex(&frame::settle(&settlements)), "0c000000010502010200ac0201010172");
    let mut head = frame::message_head(&message()).unwrap();
    frame::set_sequence(&mut head, 7);
    assert_eq!(
        hex(&head),
        "310000000104070000000000000000abababababababababababababababab0101016d03023432010101020701016400010170"
    );
}

#[test]
fn the_last_words_and_modules_keep_their_numbers() {
    let bytes = |operation: Operation| hex(&postcard::to_stdvec(&operation).unwrap());
    assert_eq!(bytes(Operation::Echo), "2b");
    assert_eq!(bytes(Operation::Unknown("x".into())), "2c0178");
    assert_eq!(Module::Edgemesh.index(), 9);
}

#[test]
fn the_bytes_of_lifeline_records_are_pinned() {
    assert_eq!(lifeline::VERSION, 1);
    let start = Start {
        module: Module::Edgehub,
        instance: Instance(1),
        node: "n".into(),
        runtime_dir: "/r".into(),
        config: "{}".into(),
        enabled: ModuleSet::EMPTY.with(Module::Edged),
        users: [0; Module::COUNT],
        beat_interval_ms: 2000,
        faults: true,
        log_level: LogLevel::Info,
        confine: Confine { user: Some((1, 2)), seccomp: true, ..Confine::default() },
        queue: QueueBounds::default(),
    };
    let record = |record: &ToModule| hex(&lifeline::encode(record).unwrap());
    assert_eq!(
        record(&ToModule::Start(Box::new(start))),
        "01000201016e022f72027b7d0800000000000000000000d00f010201010200010000000000800880808002"
    );
    assert_eq!(record(&ToModule::Drain), "0101");
    assert_eq!(record(&ToModule::Fault(Fault::CloseStdout)), "010209");
    assert_eq!(record(&ToModule::Fleet(Vec::new())), "010500");
    let record = |record: &ToSupervisor| hex(&lifeline::encode(record).unwrap());
    assert_eq!(record(&ToSupervisor::Ready(Confinement::default())), "01000000000000000000");
    assert_eq!(record(&ToSupervisor::Beat(Load { waiting: 1, unsettled: 300 })), "010101ac02");
    let traffic = Traffic { sent: 1, received: 2, queued_bytes: 300, peers: 4, connections: 5 };
    assert_eq!(record(&ToSupervisor::Traffic(traffic)), "01030102ac020405");
}

#[test]
fn a_frame_of_another_version_is_refused_before_its_body_is_looked_at() {
    let mut bytes = frame::hello(&hello()).to_vec();
    bytes[frame::LENGTH] = 2;
    bytes.truncate(frame::LENGTH + 3);
    bytes[0] = 3;
    let mut buffer = BytesMut::from(&bytes[..]);
    assert_eq!(frame::take(&mut buffer), Err(FrameError::Version(2)));
    assert_eq!(FrameError::Version(2).to_string(), "frame of protocol version 2, expected 1");
}

#[test]
fn a_length_over_the_bound_is_refused_with_the_first_four_bytes() {
    let mut buffer = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
    assert_eq!(frame::take(&mut buffer), Err(FrameError::TooLong(u32::MAX as usize)));
    let mut buffer = BytesMut::from(&1u32.to_le_bytes()[..]);
    assert_eq!(frame::take(&mut buffer), Err(FrameError::TooShort(1)));
}

#[test]
fn the_greatest_content_passes_and_one_byte_more_does_not() {
    let mut message = message();
    message.content = Content::from_raw(vec![b'1'; frame::MAX_CONTENT].into());
    let head = frame::message_head(&message).unwrap();
    let mut buffer = BytesMut::from(&head[..]);
    buffer.extend_from_slice(message.content.raw());
    assert_eq!(frame::take(&mut buffer), Ok(Some(Frame::Message(0, message.clone()))));
    message.content = Content::from_raw(vec![b'1'; frame::MAX_CONTENT + 1].into());
    assert_eq!(
        frame::message_head(&message),
        Err(FrameError::ContentTooLong(frame::MAX_CONTENT + 1))
    );
    message.content = Content::NULL;
    message.header.resource_version = "9".repeat(frame::MAX_HEAD).into();
    assert!(matches!(frame::message_head(&message), Err(FrameError::HeadTooLong(_))));
}

#[test]
fn a_record_over_the_bound_or_of_another_version_is_refused() {
    let report = ToSupervisor::Report(vec![b' '; lifeline::MAX_RECORD].into());
    assert!(matches!(lifeline::encode(&report), Err(RecordError::TooLong(_))));
    let decode = lifeline::decode::<ToSupervisor>;
    assert_eq!(decode(&[]), Err(RecordError::Empty));
    assert_eq!(decode(&[9, 0]), Err(RecordError::Version(9)));
    assert_eq!(decode(&[1, 77]), Err(RecordError::Malformed));
    let mut trailing = lifeline::encode(&ToSupervisor::Beat(Load::default())).unwrap();
    trailing.push(0);
    assert_eq!(decode(&trailing), Err(RecordError::Malformed));
}

proptest! {
    #[test]
    fn frames_come_out_of_any_cuts_as_they_went_in(
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..12),
        cut in 1_usize..64,
    ) {
        let mut wire = Vec::new();
        let mut sent = Vec::new();
        for (sequence, content) in (1..).zip(contents) {
            let message = Message { content: Content::from_raw(content.into()), ..message() };
            let mut head = frame::message_head(&message).unwrap();
            frame::set_sequence(&mut head, sequence);
            wire.extend_from_slice(&head);
            wire.extend_from_slice(message.content.raw());
            sent.push(Frame::Message(sequence, message));
        }
        let mut buffer = BytesMut::new();
        let mut got = Vec::new();
        for piece in wire.chunks(cut) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = frame::take(&mut buffer).unwrap() {
                got.push(frame);
            }
        }
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn rubbish_is_never_more_than_an_error(
        mut body in prop::collection::vec(any::<u8>(), 0..200),
        kind in 0_u8..8,
    ) {
        drop(lifeline::decode::<ToModule>(&body));
        drop(lifeline::decode::<ToSupervisor>(&body));
        drop(ipc_proto::tap::Record::decode(&body));
        drop(frame::take(&mut BytesMut::from(&body[..])));
        body.splice(0..0, [frame::VERSION, kind]);
        drop(frame::decode(&Bytes::from(body)));
    }
}
