//! Calls of the cloud to services of this node.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::words::{Call, Headers, MAX_BODY, Reply};

/// How long a service may take; KubeEdge's own bound.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest head of a reply, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Headers that belong to one connection, or that the client sets itself.
const OWN: [&str; 9] = [
    "host",
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Calls a service and returns what is to be told to the cloud.
pub(crate) async fn call(call: Call) -> Reply {
    match timeout(PATIENCE, exchange(call)).await {
        Ok(Ok(reply) | Err(reply)) => reply,
        Err(_) => Reply::error(404, "error to call service: it did not answer within 10 s"),
    }
}

async fn exchange(call: Call) -> Result<Reply, Reply> {
    let unreachable = |error: &dyn std::fmt::Display| {
        Reply::error(404, &format!("error to call service: {error}"))
    };
    let request = request(&call)?;
    let stream = TcpStream::connect(("127.0.0.1", call.port)).await;
    let stream = stream.map_err(|error| unreachable(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(&error))?;
    let reply = async {
        let response = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
        read(response).await
    };
    tokio::pin!(reply);
    tokio::select! {
        reply = &mut reply => reply,
        // The connection's end lets the reply end too, with the better reason.
        _ = connection => reply.await,
    }
}

fn request(call: &Call) -> Result<Request<Full<Bytes>>, Reply> {
    let bad = |what: &str| Reply::error(400, &format!("error to parse http request: {what}"));
    let method = Method::from_bytes(call.method.as_bytes()).map_err(|_| bad("its method"))?;
    if method == Method::CONNECT {
        return Err(bad("its method"));
    }
    let body = Full::new(Bytes::from(call.body.clone()));
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = call.path.parse().map_err(|_| bad("its path"))?;
    let headers = request.headers_mut();
    for (name, values) in &call.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("a header"))?;
        if OWN.contains(&name.as_str()) {
            continue;
        }
        for value in values {
            let value = HeaderValue::from_str(value).map_err(|_| bad("a header"))?;
            headers.try_append(&name, value).map_err(|_| bad("too many headers"))?;
        }
    }
    let host = HeaderValue::from_str(&format!("127.0.0.1:{}", call.port));
    headers.insert(hyper::header::HOST, host.map_err(|_| bad("its port"))?);
    Ok(request)
}

async fn read(response: Response<Incoming>) -> Result<Reply, Reply> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
        let why = if error.is::<LengthLimitError>() {
            format!("error to receive response: its body has more than {MAX_BODY} bytes")
        } else {
            format!("error to receive response: {error}")
        };
        Reply::error(500, &why)
    })?;
    let status = head.status.as_u16();
    Ok(Reply { status, headers: headers(&head.headers), body: body.to_bytes().into() })
}

/// Returns headers with their names as Go writes them: `Content-Type`.
fn headers(map: &HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in map {
        let name = canonical(name.as_str());
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(name).or_default().push(value);
    }
    headers
}

fn canonical(name: &str) -> String {
    let parts = name.split('-').map(|part| {
        let (first, rest) = part.split_at(part.len().min(1));
        first.to_ascii_uppercase() + rest
    });
    parts.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Call {
        let header = |name: &str, value: &str| (name.to_owned(), vec![value.to_owned()]);
        Call {
            port: 80,
            path: "/a?b=c".to_owned(),
            method: "PUT".to_owned(),
            headers: Headers::from([header("X-Own", "1"), header("Host", "evil")]),
            body: b"x".to_vec(),
        }
    }

    #[test]
    fn headers_of_the_connection_are_the_clients_own() {
        let request = request(&sample()).unwrap();
        assert_eq!(request.headers()["host"], "127.0.0.1:80");
        assert_eq!(request.headers()["x-own"], "1");
        assert_eq!(request.uri(), "/a?b=c");
    }

    #[test]
    fn what_cannot_be_asked_is_said() {
        let call = |method: &str, header: &str| Call {
            method: method.to_owned(),
            headers: Headers::from([(header.to_owned(), vec!["x\n".to_owned()])]),
            ..sample()
        };
        for (call, why) in [
            (call("B AD", "a"), "its method"),
            (call("CONNECT", "a"), "its method"),
            (call("GET", "a b"), "a header"),
            (call("GET", "a"), "a header"),
        ] {
            let reply = request(&call).unwrap_err();
            let said = format!("error to parse http request: {why}");
            assert_eq!((reply.status, reply.body), (400, said.into_bytes()));
        }
    }

    #[test]
    fn names_are_written_as_go_writes_them() {
        for (name, written) in
            [("content-type", "Content-Type"), ("etag", "Etag"), ("x--y", "X--Y")]
        {
            assert_eq!(canonical(name), written);
        }
    }
}
