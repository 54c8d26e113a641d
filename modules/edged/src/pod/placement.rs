//! Where a pod may run (core/v1): what it wants of its node, and which taints it bears. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Texts by name.
pub(crate) type Texts = BTreeMap<String, String>;

/// What a node is chosen by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) labels: Texts,
    pub(crate) taints: Vec<Taint>,
}

impl Terms {
    /// Reads them out of a Node.
    pub(crate) fn of(node: &Value) -> Self {
        let labels = Texts::deserialize(&node["metadata"]["labels"]);
        let taints = Vec::deserialize(&node["spec"]["taints"]);
        Self { labels: labels.unwrap_or_default(), taints: taints.unwrap_or_default() }
    }
}

/// What keeps pods off a node that do not bear it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Taint {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) effect: String,
}

/// Which taints a pod bears.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Toleration {
    key: Box<str>,
    operator: Box<str>,
    value: Box<str>,
    effect: Box<str>,
}

impl Toleration {
    /// Tells whether a pod that says this bears a taint.
    pub(crate) fn bears(&self, taint: &Taint) -> bool {
        let any_or = |own: &str, other: &str| own.is_empty() || own == other;
        any_or(&self.effect, &taint.effect)
            && any_or(&self.key, &taint.key)
            && match &*self.operator {
                "" | "Equal" => *self.value == *taint.value,
                "Exists" => true,
                _ => false,
            }
    }
}

/// What a pod wants of its node beside labels by name; what it merely prefers is the scheduler's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Affinity {
    node_affinity: NodeAffinity,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct NodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    required: Option<NodeSelector>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeSelector {
    node_selector_terms: Vec<Term>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Term {
    match_expressions: Vec<Wish>,
    match_fields: Vec<Wish>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Wish {
    key: Box<str>,
    operator: Box<str>,
    values: Vec<Box<str>>,
}

impl Affinity {
    /// Tells whether a node of this name and with these labels will do: one of the terms holds. A
    /// term without any wish holds for no node.
    pub(crate) fn suits(&self, node: &str, labels: &Texts) -> bool {
        let Some(required) = &self.node_affinity.required else { return true };
        required.node_selector_terms.iter().any(|term| {
            let Term { match_expressions: labelled, match_fields: fields } = term;
            !(labelled.is_empty() && fields.is_empty())
                && labelled
                    .iter()
                    .all(|wish| wish.holds(labels.get(&*wish.key).map(String::as_str)))
                && fields
                    .iter()
                    .all(|wish| wish.holds(Some(node).filter(|_| *wish.key == *"metadata.name")))
        })
    }
}

impl Wish {
    fn holds(&self, value: Option<&str>) -> bool {
        let is_one = || self.values.iter().any(|it| value == Some(it));
        let number = |text: Option<&str>| text.and_then(|it| it.parse::<i64>().ok());
        let both = || number(value).zip(number(self.values.first().map(|it| &**it)));
        match &*self.operator {
            "In" => is_one(),
            "NotIn" => !is_one(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => both().is_some_and(|(own, bound)| own > bound),
            "Lt" => both().is_some_and(|(own, bound)| own < bound),
            _ => false,
        }
    }
}
