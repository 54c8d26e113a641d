//! A look at a node whose agent may be another one: what runs, what could not, and what the
//! database holds. Nothing is changed.

use std::path::Path;

use ipc_proto::Module;
use metamanager::store;
use serde_json::{Value, json};

use crate::arguments::Survey;
use crate::config;

/// Looks at one thing; returns JSON.
///
/// # Errors
/// With a sentence.
pub(crate) fn of(what: Survey, config: &Path) -> Result<Vec<u8>, String> {
    let found = match what {
        Survey::Containers => containers(config)?,
        Survey::Pods => unsupported(config)?,
        Survey::Tables => tables(config)?,
        Survey::Database => database(config)?,
        Survey::Certificate => json!(edgehub::lifetime(config::section(config, Module::Edgehub)?)?),
        Survey::Runtime => runtime(config)?,
        Survey::Copy(to) => copy(config, &to)?,
    };
    Ok(found.to_string().into_bytes())
}

fn containers(config: &Path) -> Result<Value, String> {
    let section = config::section(config, Module::Edged)?;
    edged::survey::containers(section).map(Value::Array).map_err(|error| format!("{error:#}"))
}

/// Returns a sentence for each pod of the database that this agent could not run.
fn unsupported(config: &Path) -> Result<Value, String> {
    let path = config::database(config)?;
    let cannot = |reason: String| format!("cannot read the pods of {}: {reason}", path.display());
    let [pods] = store::read_pods(&path).map_err(|trouble| cannot(trouble.to_string()))?;
    let pods: Vec<Value> =
        serde_json::from_slice(&pods).map_err(|error| cannot(error.to_string()))?;
    let why = |pod: &Value| {
        let said = edged::survey::unsupported(pod.to_string().as_bytes());
        said.unwrap_or_else(|error| Some(format!("a pod that cannot be read: {error}")))
    };
    Ok(pods.iter().filter_map(why).collect())
}

fn tables(config: &Path) -> Result<Value, String> {
    let path = config::database(config)?;
    let tables = store::read_tables(&path);
    let tables = tables.map_err(|trouble| format!("cannot read {}: {trouble}", path.display()))?;
    Ok(tables.into_iter().map(|(sql, rows)| json!({ "made": sql, "rows": rows })).collect())
}

fn database(config: &Path) -> Result<Value, String> {
    let path = config::database(config)?;
    let checked = store::check(&path).map(|()| Value::Null);
    checked.map_err(|trouble| format!("{}: {trouble}", path.display()))
}

fn runtime(config: &Path) -> Result<Value, String> {
    let section = config::section(config, Module::Edged)?;
    edged::survey::runtime(section).map_err(|error| format!("{error:#}"))
}

fn copy(config: &Path, to: &Path) -> Result<Value, String> {
    let path = config::database(config)?;
    let copied = store::copy(&path, to);
    copied
        .map(|()| Value::Null)
        .map_err(|trouble| format!("cannot copy {} to {}: {trouble}", path.display(), to.display()))
}
