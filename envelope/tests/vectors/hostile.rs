//! Deliveries that a reader refuses, each for one fault.

use crate::{
    Vectors,
    scene::{Scene, refused},
    world::World,
};

#[path = "hostile/form.rs"]
mod form;
#[path = "hostile/policy.rs"]
mod policy;
#[path = "hostile/proofs.rs"]
mod proofs;
#[path = "hostile/sealing.rs"]
mod sealing;

struct Make<'w, 'v> {
    world: &'w World,
    vectors: &'v mut Vectors,
}

impl<'w> Make<'w, '_> {
    /// A scene that is good as it is.
    fn scene(&self) -> Scene<'w> {
        Scene::new(self.world, "hostile")
    }

    fn put(&mut self, name: &str, code: &str, purpose: &str, scene: &Scene<'_>) {
        let admission = scene.admission(&scene.digest()).encode();
        self.vectors.hostile(name, scene.vector(purpose, &scene.envelope(), Some(&admission), refused(code)));
    }

    /// Bytes that are no envelope, or not this one. The admission is for the digest that a reader finds.
    fn bytes(&mut self, name: &str, code: &str, purpose: &str, bytes: &[u8]) {
        let scene = self.scene();
        let admission = scene.admission(&scene.digest()).encode();
        self.vectors.hostile(name, scene.vector(purpose, bytes, Some(&admission), refused(code)));
    }

    fn header(&mut self, name: &str, code: &str, purpose: &str, place: usize, element: Vec<u8>) {
        let scene = self.scene().set(place, element);
        self.put(name, code, purpose, &scene);
    }

    /// The proof is replaced; digest and admission stay right.
    fn proof(&mut self, name: &str, code: &str, purpose: &str, scene: &Scene<'_>, proof: &[u8]) {
        let (header, ciphertext, digest, _) = scene.parts();
        let bytes = scene.frame(&header, &ciphertext, proof);
        let admission = scene.admission(&digest).encode();
        self.vectors.hostile(name, scene.vector(purpose, &bytes, Some(&admission), refused(code)));
    }

    fn admission(&mut self, name: &str, code: &str, purpose: &str, admission: Option<&str>) {
        let scene = self.scene();
        self.vectors.hostile(name, scene.vector(purpose, &scene.envelope(), admission, refused(code)));
    }
}

pub(crate) fn make(world: &World, vectors: &mut Vectors) {
    let mut make = Make { world, vectors };
    form::frames(&mut make);
    form::headers(&mut make);
    proofs::sending(&mut make);
    proofs::admission(&mut make);
    policy::senders(&mut make);
    policy::rules(&mut make);
    sealing::put(&mut make);
}
