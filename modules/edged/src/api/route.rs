//! What a request is about. Pure: method and address in, route or refusal out.

use hyper::{Method, StatusCode, Uri};
pub(crate) use module_runtime::query::Query;
use module_runtime::query::decode;

use super::reply::Refusal;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Whether it lives; with `engine`, whether the pod engine does.
    Healthz {
        engine: bool,
    },
    Pods,
    RunningPods,
    Logs(Target, Query),
    Exec(Target, Query),
    Attach(Target, Query),
    PortForward(Target, Query),
    Run(Target, Query),
    /// Without what is not processor and memory if `small`.
    Summary {
        small: bool,
    },
    Metrics,
    Resource,
    Cadvisor,
    Probes,
    Configz,
    /// Of the host's logs, by the names on the way.
    Files(Vec<String>),
}

/// A container of a pod, or the pod alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// Empty for whichever pod has the name.
    pub(crate) uid: String,
    pub(crate) container: String,
}

/// Finds out what a request is about.
///
/// # Errors
/// What kubelet answers to requests that it has no route for.
pub(crate) fn route(method: &Method, uri: &Uri) -> Result<Route, Refusal> {
    let none = || Refusal::new(StatusCode::NOT_FOUND, "404: Page Not Found");
    let path = decode(uri.path()).ok_or_else(none)?;
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..") || part.contains('\0')) {
        return Err(none());
    }
    let query = Query::parse(uri.query().unwrap_or_default());
    let (get, post) = ([Method::GET].as_slice(), [Method::GET, Method::POST].as_slice());
    let (route, methods) = match *parts.as_slice() {
        ["healthz"] | ["healthz", "ping" | "log"] => (Route::Healthz { engine: false }, get),
        ["healthz", "syncloop"] => (Route::Healthz { engine: true }, get),
        ["pods"] => (Route::Pods, get),
        ["runningpods"] => (Route::RunningPods, get),
        ["containerLogs", namespace, pod, container] => {
            (Route::Logs(Target::new(namespace, pod, "", container), query), get)
        }
        ["exec", namespace, pod, container] => {
            (Route::Exec(Target::new(namespace, pod, "", container), query), post)
        }
        ["exec", namespace, pod, uid, container] => {
            (Route::Exec(Target::new(namespace, pod, uid, container), query), post)
        }
        ["attach", namespace, pod, container] => {
            (Route::Attach(Target::new(namespace, pod, "", container), query), post)
        }
        ["attach", namespace, pod, uid, container] => {
            (Route::Attach(Target::new(namespace, pod, uid, container), query), post)
        }
        ["portForward", namespace, pod] => {
            (Route::PortForward(Target::new(namespace, pod, "", ""), query), post)
        }
        ["portForward", namespace, pod, uid] => {
            (Route::PortForward(Target::new(namespace, pod, uid, ""), query), post)
        }
        ["run", namespace, pod, container] => {
            (Route::Run(Target::new(namespace, pod, "", container), query), &post[1..])
        }
        ["run", namespace, pod, uid, container] => {
            (Route::Run(Target::new(namespace, pod, uid, container), query), &post[1..])
        }
        ["stats", "summary"] => {
            (Route::Summary { small: query.first("only_cpu_and_memory") == Some("true") }, post)
        }
        ["metrics"] => (Route::Metrics, get),
        ["metrics", "resource"] => (Route::Resource, get),
        ["metrics", "cadvisor"] => (Route::Cadvisor, get),
        ["metrics", "probes"] => (Route::Probes, get),
        ["logs", ref names @ ..] => {
            (Route::Files(names.iter().map(ToString::to_string).collect()), get)
        }
        ["configz"] => (Route::Configz, get),
        _ => return Err(none()),
    };
    if methods.contains(method) {
        return Ok(route);
    }
    Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"))
}

impl Target {
    fn new(namespace: &str, pod: &str, uid: &str, container: &str) -> Self {
        let [namespace, pod, uid, container] =
            [namespace, pod, uid, container].map(ToOwned::to_owned);
        Self { namespace, pod, uid, container }
    }
}

#[cfg(test)]
mod tests;
