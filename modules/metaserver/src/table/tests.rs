//! Tests of tables.

use super::*;

fn cells(table: Table, object: &Value) -> Value {
    let text = object.to_string();
    let raw: &RawValue = serde_json::from_str(&text).unwrap();
    let cells = table.cells(raw);
    assert_eq!(cells.as_array().unwrap().len(), table.list().len());
    cells
}

#[test]
fn ages_are_kubectls() {
    for (seconds, text) in [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (599, "9m59s"),
        (600, "10m"),
        (10_800, "3h"),
        (11_000, "3h3m"),
        (30_000, "8h"),
        (172_800, "2d"),
        (180_000, "2d2h"),
        (700_000, "8d"),
        (63_072_000, "2y"),
        (70_000_000, "2y80d"),
        (300_000_000, "9y"),
    ] {
        assert_eq!(duration(seconds), text);
    }
}

#[test]
fn every_kind_has_as_many_cells_as_columns() {
    let node = json!({"metadata": {"name": "edge1", "labels":
        {"node-role.kubernetes.io/edge": "", "node-role.kubernetes.io/agent": ""}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kubeletVersion": "v1"}}});
    let shown = cells(Table::Nodes, &node);
    assert_eq!(
        shown.as_array().unwrap()[..3],
        [json!("edge1"), json!("Ready"), json!("agent,edge")]
    );
    let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.0.0.1",
        "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53}]}});
    assert_eq!(cells(Table::Services, &service)[4], "80:30080/TCP,53/TCP");
    let map = json!({"metadata": {"name": "c"}, "data": {"a": "1"}, "binaryData": {"b": "eA=="}});
    assert_eq!(cells(Table::ConfigMaps, &map)[1], 2);
    assert_eq!(cells(Table::Secrets, &json!({"type": "Opaque"}))[1], "Opaque");
    assert_eq!(cells(Table::Others, &Value::Null), json!([null, "<unknown>"]));
}
