//! One attempt at a write, from admission to its end.

use std::ops::{Deref, DerefMut};

use api_object::Status;

use crate::admission::{Admission, Attributes};

/// The attributes of an attempt that the plugins have changed, and the promise
/// that they are told how it ended, also where it is refused midway or nobody
/// waits for the answer any more.
pub(crate) struct Admitted<'a> {
    admission: &'a dyn Admission,
    attributes: Attributes,
    stored: bool,
}

impl<'a> Admitted<'a> {
    /// Runs the mutating plugins.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) async fn new(
        admission: &'a dyn Admission,
        attributes: Attributes,
    ) -> Result<Self, Status> {
        let mut admitted = Self { admission, attributes, stored: false };
        admitted.admission.mutate(&mut admitted.attributes).await?;
        Ok(admitted)
    }

    /// Runs the validating plugins.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) async fn validate(&mut self) -> Result<(), Status> {
        self.admission.validate(&mut self.attributes).await
    }

    /// Says whether the store may have taken it. True from before a commit on:
    /// dropping a commit does not take it back.
    pub(crate) fn stored(&mut self, stored: bool) {
        self.stored = stored;
    }
}

impl Deref for Admitted<'_> {
    type Target = Attributes;

    fn deref(&self) -> &Attributes {
        &self.attributes
    }
}

impl DerefMut for Admitted<'_> {
    fn deref_mut(&mut self) -> &mut Attributes {
        &mut self.attributes
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.admission.settled(&self.attributes, self.stored);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use api_object::{GroupVersionKind, GroupVersionResource};

    use super::*;
    use crate::{BoxFuture, Operation, UserInfo};

    /// Refuses what is called `bad`, after reserving; remembers the ends.
    #[derive(Default)]
    struct Plugin(Mutex<Vec<(Vec<String>, bool)>>);

    impl Admission for Plugin {
        fn mutate<'a>(&'a self, asked: &'a mut Attributes) -> BoxFuture<'a, Result<(), Status>> {
            asked.reserved.push(asked.name.clone());
            let refused = asked.name == "bad";
            Box::pin(
                async move { if refused { Err(Status::bad_request("refused")) } else { Ok(()) } },
            )
        }

        fn validate<'a>(&'a self, _: &'a mut Attributes) -> BoxFuture<'a, Result<(), Status>> {
            Box::pin(async { Ok(()) })
        }

        fn settled(&self, attributes: &Attributes, stored: bool) {
            let mut ends = self.0.lock().expect("no panic while held");
            ends.push((attributes.reserved.clone(), stored));
        }
    }

    fn attributes(name: &str) -> Attributes {
        Attributes {
            operation: Operation::Create,
            resource: GroupVersionResource::new("", "v1", "pods"),
            kind: GroupVersionKind::default(),
            subresource: String::new(),
            namespace: "default".into(),
            name: name.into(),
            object: None,
            old_object: None,
            dry_run: false,
            user: UserInfo::anonymous().into(),
            warnings: Vec::new(),
            beside: Vec::new(),
            options: serde_json::Value::Null,
            reinvocation: crate::admission::Reinvocation::default(),
            reserved: Vec::new(),
        }
    }

    #[tokio::test]
    async fn every_attempt_is_told_its_end() {
        let plugin = Plugin::default();
        assert!(Admitted::new(&plugin, attributes("bad")).await.is_err());
        let mut good = Admitted::new(&plugin, attributes("good")).await.expect("admitted");
        good.validate().await.expect("valid");
        good.stored(true);
        drop(good);
        drop(Admitted::new(&plugin, attributes("forgotten")).await);
        let ends = plugin.0.lock().expect("no panic while held");
        let ends: Vec<(&str, bool)> = ends.iter().map(|(r, s)| (r[0].as_str(), *s)).collect();
        assert_eq!(ends, [("bad", false), ("good", true), ("forgotten", false)]);
    }
}
