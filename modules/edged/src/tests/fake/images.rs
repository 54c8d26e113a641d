//! The images of the runtime.

use std::path::Path;

use bytes::Bytes;
use prost::Message as _;

use super::{Answer, World, one};
use crate::cri::words as w;

impl World {
    pub(super) fn list_images(&self) -> Answer {
        let image = |(id, size): &(&'static str, u64)| w::Image {
            id: (*id).to_owned(),
            size: *size,
            ..w::Image::default()
        };
        one(&w::ListImagesResponse { images: self.images.iter().map(image).collect() })
    }

    pub(super) fn remove_image(&mut self, content: Bytes) -> Answer {
        let image = w::RemoveImageRequest::decode(content).unwrap().image.unwrap_or_default().image;
        self.images.retain(|(id, _)| *id != image);
        // What it takes up is a file of its name.
        std::fs::remove_file(Path::new(&self.place).join(image)).unwrap_or_default();
        one(&w::Empty {})
    }

    pub(super) fn image_place(&self) -> Answer {
        let mountpoint = self.place.clone();
        let fs_id = Some(w::FilesystemIdentifier { mountpoint });
        one(&w::ImageFsInfoResponse { image_filesystems: vec![w::ImageFilesystem { fs_id }] })
    }
}
