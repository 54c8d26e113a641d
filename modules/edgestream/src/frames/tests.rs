//! Frames, those of the recording among them, and what is none.

use proptest::prelude::*;

use super::*;

/// A frame as a server writes it.
fn served(kind: u8, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![if fin { 0x80 | kind } else { kind }];
    match payload.len() {
        short @ 0..=125 => frame.push(u8::try_from(short).unwrap()),
        middle @ 126..=0xffff => {
            frame.push(126);
            frame.extend(u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

fn all(decoder: &mut Decoder) -> Result<Vec<Message>, Broken> {
    let mut messages = Vec::new();
    while let Some(message) = decoder.next()? {
        messages.push(message);
    }
    Ok(messages)
}

fn of(bytes: &[u8]) -> Result<Vec<Message>, Broken> {
    all(&mut Decoder::new(BytesMut::from(bytes)))
}

#[test]
fn a_recorded_frame_is_written_and_read_as_it_was() {
    let recorded = b"\x81\x82\x56\xde\x00\x4f\x57\xda";
    let mut buffer = vec![0; HEAD];
    buffer.extend([0x01, 0x04]);
    let start = seal(&mut buffer, Kind::Text, [0x56, 0xde, 0x00, 0x4f]);
    assert_eq!(buffer[start..], recorded[..]);
    assert_eq!(of(b"\x81\x02\x02\x04"), Ok(vec![Message::Data(Bytes::from_static(b"\x02\x04"))]));
}

#[test]
fn what_is_no_frame_is_refused_before_its_payload_is_there() {
    assert_eq!(of(&[0xc1, 0]), Err(Broken::Kind(0xc1)));
    assert_eq!(of(&[0x83, 0]), Err(Broken::Kind(0x83)));
    assert_eq!(of(&[0x81, 0x80]), Err(Broken::Masked));
    assert_eq!(of(&[0x09, 0]), Err(Broken::Control));
    assert_eq!(of(&[0x89, 126, 0, 126]), Err(Broken::Control));
    assert_eq!(of(&[0x80, 0]), Err(Broken::Order));
    assert_eq!(of(&[0x01, 0, 0x81, 0]), Err(Broken::Order));
    let huge = [&[0x82, 127][..], &u64::MAX.to_be_bytes()].concat();
    assert_eq!(of(&huge), Err(Broken::TooLong(u64::MAX)));
}

#[test]
fn pieces_add_up_to_no_more_than_the_bound() {
    let mut bytes = served(TEXT, false, &vec![0; MAX_MESSAGE]);
    bytes.extend(served(CONTINUATION, true, b"x"));
    assert_eq!(of(&bytes), Err(Broken::TooLong(MAX_MESSAGE as u64 + 1)));
}

proptest! {
    #[test]
    fn messages_come_out_however_they_were_cut(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..5),
        reads in prop::collection::vec(1usize..200, 1..20),
    ) {
        let last = pieces.len() - 1;
        let mut bytes = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            let kind = if index == 0 { TEXT } else { CONTINUATION };
            bytes.extend(served(kind, index == last, piece));
            bytes.extend(served(PING, true, b"p"));
        }
        let mut decoder = Decoder::new(BytesMut::new());
        let mut found = Vec::new();
        let mut reads = reads.into_iter().cycle();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (read, more) = rest.split_at(rest.len().min(reads.next().unwrap()));
            decoder.input.extend_from_slice(read);
            found.extend(all(&mut decoder).unwrap());
            rest = more;
        }
        let data: Vec<_> = found.iter().filter(|it| matches!(it, Message::Data(_))).collect();
        let whole = Message::Data(pieces.concat().into());
        prop_assert_eq!(data, vec![&whole]);
        prop_assert_eq!(found.len(), pieces.len() + 1);
    }

    #[test]
    fn masking_twice_gives_the_bytes_back(bytes: Vec<u8>, mask: [u8; 4]) {
        let mut masked = bytes.clone();
        apply_mask(&mut masked, mask);
        for (index, (plain, masked)) in bytes.iter().zip(&masked).enumerate() {
            prop_assert_eq!(plain ^ mask[index % 4], *masked);
        }
    }

    #[test]
    fn rubbish_never_panics(bytes: Vec<u8>) {
        let _whatever = of(&bytes);
    }

    #[test]
    fn every_length_has_its_head(length in prop_oneof![0usize..130, 65_530usize..65_540]) {
        let mut buffer = vec![0; HEAD + length];
        let start = seal(&mut buffer, Kind::Text, [0; 4]);
        // Without the bit and the bytes of the mask it is a server's frame.
        let mut frame = buffer[start..].to_vec();
        frame[1] &= 0x7f;
        let end = HEAD - start;
        frame.drain(end - 4..end);
        prop_assert_eq!(of(&frame), Ok(vec![Message::Data(vec![0; length].into())]));
    }
}
