//! What a request is about. Pure: method and address in, route out.

use hyper::Method;
use module_runtime::query::{Query, decode};

use crate::kinds::{self, Known};
use crate::status::Refusal;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Whether it works.
    Health,
    /// What there is: discovery, version, schemas.
    Discovery,
    /// Objects.
    Objects(Verb, Target),
}

/// What is to be done with objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// Returns the word of the API.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// Which objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// Empty for the core group.
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    /// Such as `status`; empty for the object itself.
    pub(crate) subresource: String,
}

impl Target {
    pub(crate) fn known(&self) -> Option<&'static Known> {
        kinds::find(&self.group, &self.version, &self.plural)
    }

    /// Tells whether the store knows best.
    pub(crate) fn is_held(&self) -> bool {
        self.known().is_some_and(|known| known.held)
    }

    /// Returns group and version as objects carry them.
    pub(crate) fn api_version(&self) -> String {
        match &*self.group {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Returns resource and group as errors name them.
    pub(crate) fn group_resource(&self) -> String {
        match &*self.group {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// Returns the key of the store: of one object, or what the keys of all begin with.
    pub(crate) fn key(&self) -> String {
        let stem = self.stem();
        match (&self.namespace, &self.name) {
            (namespace, Some(name)) => {
                format!("{stem}/{}/{name}", namespace.as_deref().unwrap_or("null"))
            }
            (Some(namespace), None) => format!("{stem}/{namespace}/"),
            (None, None) => format!("{stem}/"),
        }
    }

    /// Returns the key of an application: parts that are not there are the word `null`.
    pub(crate) fn application_key(&self) -> String {
        let word = |part: &Option<String>| part.clone().unwrap_or_else(|| "null".to_owned());
        format!("{}/{}/{}", self.stem(), word(&self.namespace), word(&self.name))
    }

    fn stem(&self) -> String {
        let group = if self.group.is_empty() { "core" } else { &self.group };
        format!("/{group}/{}/{}", self.version, self.plural)
    }
}

/// Finds out what a request is about.
///
/// # Errors
/// That there is nothing of that path, or that the method does not go with it.
pub(crate) fn route(method: &Method, path: &str, query: &Query) -> Result<Route, Refusal> {
    let unknown = || Refusal::unknown_path(path);
    let mut segments = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let segment = decode(segment).filter(|text| !text.contains('/')).ok_or_else(unknown)?;
        segments.push(segment);
    }
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let is_read = method == Method::GET || method == Method::HEAD;
    let (group, version, rest) = match parts.as_slice() {
        ["healthz" | "livez" | "readyz", ..] if is_read => return Ok(Route::Health),
        ["version" | "api" | "apis"]
        | ["openapi", ..]
        | ["api", _]
        | ["apis", _]
        | ["apis", _, _]
            if is_read =>
        {
            return Ok(Route::Discovery);
        }
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        ["healthz" | "livez" | "readyz" | "version" | "api" | "apis" | "openapi", ..] => {
            return Err(Refusal::method(method.as_str(), path));
        }
        _ => return Err(unknown()),
    };
    let target = target(group, version, rest).ok_or_else(unknown)?;
    let verb =
        verb(method, &target, query).ok_or_else(|| Refusal::method(method.as_str(), path))?;
    Ok(Route::Objects(verb, target))
}

fn target(group: &str, version: &str, rest: &[&str]) -> Option<Target> {
    let (namespace, rest) = match rest {
        // The namespace itself is an object of the cluster.
        ["namespaces", _, "status" | "finalize"] | ["namespaces", _] | ["namespaces"] => {
            (None, rest)
        }
        ["namespaces", namespace, rest @ ..] => (Some((*namespace).to_owned()), rest),
        _ => (None, rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (plural, None, String::new()),
        [plural, name] => (plural, Some((*name).to_owned()), String::new()),
        [plural, name, sub @ ..] => (plural, Some((*name).to_owned()), sub.join("/")),
        [] => return None,
    };
    Some(Target {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: (*plural).to_owned(),
        namespace,
        name,
        subresource,
    })
}

fn verb(method: &Method, target: &Target, query: &Query) -> Option<Verb> {
    let named = target.name.is_some();
    Some(match *method {
        Method::GET | Method::HEAD if query.is_set("watch") && target.subresource.is_empty() => {
            Verb::Watch
        }
        Method::GET | Method::HEAD if named => Verb::Get,
        Method::GET | Method::HEAD => Verb::List,
        Method::POST => Verb::Create,
        Method::PUT if named => Verb::Update,
        Method::PATCH if named => Verb::Patch,
        Method::DELETE if named => Verb::Delete,
        Method::DELETE => Verb::DeleteCollection,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
