//! A trial of requests of local clients, and of what the cloud answers: fuzz targets and tests put
//! bytes in, which are to be taken or refused. The module itself has no use for it.

use bytes::Bytes;
use hyper::Method;
use hyper::header::CONTENT_TYPE;
use module_runtime::query::Query;
use serde_json::value::RawValue;

use crate::accept::{self, Form};
use crate::calls::Call;
use crate::cloud;
use crate::guard::trial as guard;
use crate::list::{self, Encoder};
use crate::path::{Route, Target, route};
use crate::selector::Selector;
use crate::{object, write};

const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// A request: the first byte chooses the method; address, kind of the body, and the body follow,
/// with zeros between them.
///
/// # Panics
/// When a key of the store could be another's, or an order to the cloud is no JSON.
pub fn requests(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else { return };
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let mut text = || std::str::from_utf8(parts.next().unwrap_or_default()).unwrap_or_default();
    let (address, kind) = (text(), text());
    let body = parts.next().unwrap_or_default();
    let _form = accept::read(kind);
    guard::authorization(kind);
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let query = Query::parse(query);
    let [labels, fields] =
        ["labelSelector", "fieldSelector"].map(|key| query.first(key).unwrap_or_default());
    let selector = Selector::parse(labels, fields);
    let method = &METHODS[usize::from(*choice) % METHODS.len()];
    let Ok(Route::Objects(verb, target)) = route(method, path, &query) else { return };
    for part in [target.namespace.as_deref(), target.name.as_deref()].into_iter().flatten() {
        assert!(!part.contains('/') && !part.is_empty(), "{part:?} would be another's key");
    }
    guard::roles(body, verb, &target);
    let _call = Call::of(&target);
    if let Ok(ask) = write::ask(verb, &target, &query, kind, body) {
        let option = ask.option.as_deref().unwrap_or("{}");
        assert!(serde_json::from_str::<&RawValue>(option).is_ok(), "{option}");
    }
    if let (Ok(selector), Ok(object)) = (selector, serde_json::from_slice::<&RawValue>(body)) {
        let _wanted = selector.wants(object);
        shown(&target, object);
    }
}

/// Checks that an object is JSON in each of its forms.
fn shown(target: &Target, raw: &RawValue) {
    let _version = object::version(raw.get().as_bytes());
    for form in [Form::Plain, Form::Metadata, Form::Table] {
        let text = Encoder::new(target, form).alone(raw, 1);
        assert!(serde_json::from_slice::<&RawValue>(&text).is_ok(), "{text:?}");
    }
}

/// What the cloud answers: the first byte chooses to what.
///
/// # Panics
/// When a refusal has a number that is no failure.
pub fn answers(data: &[u8]) {
    let Some((choice, answer)) = data.split_first() else { return };
    let target = Target { version: "v1".into(), plural: "pods".into(), ..Target::default() };
    match choice % 3 {
        0 => {
            if let Ok(Err(refusal)) =
                serde_json::from_slice::<cloud::Answer>(answer).map(cloud::Answer::result)
            {
                let status = refusal.reply().status();
                assert!(status.as_u16() >= 400, "{status}");
            }
        }
        1 => {
            for form in [Form::Plain, Form::Metadata, Form::Table] {
                if let Ok(reply) = list::from_cloud(&target, form, answer, 1) {
                    assert!(reply.headers().contains_key(CONTENT_TYPE));
                }
            }
        }
        _ => {
            let bytes = Bytes::copy_from_slice(answer);
            let is_object = serde_json::from_slice::<&RawValue>(answer).is_ok();
            let typed = object::typed(bytes, "v1", "Pod");
            assert!(!is_object || serde_json::from_slice::<&RawValue>(&typed).is_ok());
        }
    }
}
