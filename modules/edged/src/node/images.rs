//! The images that are on the node, for schedulers that like to know (`nodeStatusMaxImages`).

use serde_json::{Value, json};
use tracing::debug;

use crate::cri::Runtime;
use crate::cri::words as w;

/// Names that one image is told with, as kubelet bounds it.
const MAX_NAMES: usize = 5;

/// The images, as the API has them.
#[derive(Debug, Default)]
pub(crate) struct Images(Vec<Value>);

impl Images {
    /// Asks the runtime; `most` bounds how many are told, and below 0 nothing does. Without an
    /// answer what was known stays.
    pub(crate) async fn look(&mut self, runtime: &Runtime, most: i32) {
        if most == 0 {
            return;
        }
        match runtime.list_images(w::ListImagesRequest {}).await {
            Ok(answer) => self.0 = tell(answer.images, usize::try_from(most).unwrap_or(usize::MAX)),
            Err(trouble) => debug!("the images are not known: {trouble}"),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        self.0.clone().into()
    }
}

/// Returns the largest images first.
fn tell(mut images: Vec<w::Image>, most: usize) -> Vec<Value> {
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let told = images.into_iter().take(most).map(|image| {
        let names = image.repo_digests.into_iter().chain(image.repo_tags).take(MAX_NAMES);
        json!({"names": names.collect::<Vec<_>>(), "sizeBytes": image.size})
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first_and_names_are_bounded() {
        let image = |id: &str, size, names: usize| w::Image {
            id: id.to_owned(),
            size,
            repo_tags: (0..names).map(|tag| format!("r/{id}:{tag}")).collect(),
            ..Default::default()
        };
        let images = vec![image("small", 1, 1), image("large", 9, 7), image("middle", 5, 1)];
        let told = tell(images.clone(), 2);
        assert_eq!(told.len(), 2);
        assert_eq!(told[0]["sizeBytes"], 9);
        assert_eq!(told[0]["names"].as_array().map(Vec::len), Some(MAX_NAMES));
        assert_eq!(told[1]["names"], json!(["r/middle:0"]));
        assert_eq!(tell(images, usize::MAX).len(), 3);
        let many: Vec<_> = (0..1000).map(|size| image(&size.to_string(), size, 1)).collect();
        let sizes: Vec<_> =
            tell(many, 50).iter().filter_map(|it| it["sizeBytes"].as_u64()).collect();
        assert_eq!(sizes, (950..1000).rev().collect::<Vec<_>>());
    }
}
