//! What is written is read, and rubbish does no harm.

use proptest::prelude::*;

use super::*;

fn request(carriage: Carriage) -> Request {
    Request { carriage, node: "edge2".into(), endpoint: "10.1.0.7:8080".parse().unwrap() }
}

#[test]
fn edgemesh_s_own_request_is_read() {
    // type 0, protocol "tcp", node_name "n", ip "10.0.0.1", port 80, as its library writes them
    let bytes = b"\x08\0\x12\x03tcp\x1a\x01n\x22\x0810.0.0.1\x28\x50";
    let endpoint = "10.0.0.1:80".parse().unwrap();
    let expected = Request { carriage: Carriage::Tcp, node: "n".into(), endpoint };
    assert_eq!(Request::read(bytes), Ok(expected.clone()));
    assert_eq!(expected.write()[1..], bytes[..]);
    assert!(trial(&expected.write()));
}

#[test]
fn what_is_wrong_with_a_message_is_said() {
    let said = |message: &Proxy| Request::read(&message.encode_to_vec()).unwrap_err().to_string();
    let right = Proxy {
        r#type: Some(CONNECT),
        protocol: Some("tcp".into()),
        ip: Some("::1".into()),
        port: Some(1),
        ..Proxy::default()
    };
    let wrong = Proxy { protocol: Some("sctp".into()), ..right.clone() };
    assert_eq!(said(&wrong), "the protocol is \"sctp\", expected tcp or datagrams");
    let wrong = Proxy { port: Some(65_536), ..right.clone() };
    assert!(said(&wrong).starts_with("the endpoint is \"::1\" port Some(65536)"));
    assert!(said(&Proxy { r#type: Some(1), ..right }).starts_with("a message of type Some(1)"));
    let failed = Answer::Failed("é".repeat(MAX_REASON));
    assert_eq!(Answer::read(&failed.write()[2..]), Ok(failed.clone()));
    let longer = Answer::Failed("é".repeat(MAX_MESSAGE));
    assert_eq!(longer.write(), failed.write(), "a reason is cut");
}

#[test]
fn lengths_are_bounded_before_anything_is_read() {
    let read = |bytes: &[u8]| {
        let mut length = Length::default();
        bytes.iter().find_map(|byte| length.take(*byte).transpose())
    };
    assert_eq!(read(&[0x00]), Some(Ok(0)));
    assert_eq!(read(&[0x80, 0x20]), Some(Ok(4096)));
    assert_eq!(read(&[0x81, 0x20]), Some(Err(Malformed::Length)));
    assert_eq!(read(&[0x80, 0x80]), Some(Err(Malformed::Length)));
    assert_eq!(read(&[0x80]), None, "more has to come");
}

proptest! {
    #[test]
    fn rubbish_is_taken_without_harm(data in prop::collection::vec(any::<u8>(), 0..64)) {
        trial(&data);
    }

    #[test]
    fn changed_messages_are_taken_without_harm(
        at: prop::sample::Index, byte: u8, is_answer: bool,
    ) {
        let answer = || Answer::Failed("nobody is there".into()).write();
        let mut message = if is_answer { answer() } else { request(Carriage::Tcp).write() };
        let at = at.index(message.len());
        message[at] = byte;
        trial(&message);
    }

    #[test]
    fn what_is_written_is_read(
        datagrams: bool, node in "[a-z0-9.-]{0,40}", address: IpAddr, port in 1..=u16::MAX,
        reason in "[ -~]{0,64}", packet_ in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let carriage = if datagrams { Carriage::Datagrams } else { Carriage::Tcp };
        let endpoint = SocketAddr::new(address, port);
        let request = Request { carriage, node: node.clone(), endpoint };
        prop_assert!(trial(&request.write()));
        prop_assert!(trial(&Answer::Failed(reason).write()));
        let id = NodeId::of(&node);
        let unpacked = unpack(packet(id, &packet_));
        prop_assert_eq!(unpacked, Some((id, Bytes::from(packet_))));
    }
}

#[test]
fn every_carriage_is_written() {
    for carriage in [Carriage::Tcp, Carriage::Datagrams] {
        assert_eq!(Request::read(&request(carriage).write()[1..]), Ok(request(carriage)));
    }
    assert_eq!(unpack(Bytes::from_static(&[0; LENGTH - 1])), None);
}
