//! In which form the client wants objects: as they are, as a table for people, or their metadata
//! alone.

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Objects.
    Plain,
    /// A `Table` of meta.k8s.io/v1.
    Table,
    /// `PartialObjectMetadata`.
    Metadata,
}

/// Reads the header `Accept`: the first form that is served here; nothing when there is none.
pub(crate) fn read(accept: &str) -> Option<Form> {
    if accept.trim().is_empty() {
        return Some(Form::Plain);
    }
    accept.split(',').find_map(|choice| {
        let mut parts = choice.split(';').map(str::trim);
        let kind = parts.next()?;
        if !matches!(kind, "application/json" | "application/*" | "*/*") {
            return None;
        }
        let (mut wanted, mut version) = (None, "v1");
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key.trim() {
                "as" => wanted = Some(value.trim()),
                "v" => version = value.trim(),
                _ => {}
            }
        }
        match (wanted, version) {
            (None, _) => Some(Form::Plain),
            (Some("Table"), "v1") => Some(Form::Table),
            (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), "v1") => {
                Some(Form::Metadata)
            }
            (Some(_), _) => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_gets_tables_and_clients_get_objects() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                       application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(read(kubectl), Some(Form::Table));
        assert_eq!(
            read("application/vnd.kubernetes.protobuf, application/json"),
            Some(Form::Plain)
        );
        assert_eq!(read("application/vnd.kubernetes.protobuf"), None);
        let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(read(metadata), Some(Form::Metadata));
        let discovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                         application/json";
        assert_eq!(read(discovery), Some(Form::Plain));
        assert_eq!(read(""), Some(Form::Plain));
        assert_eq!(read("*/*"), Some(Form::Plain));
    }
}
