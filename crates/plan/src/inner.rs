//! Functions that wrap another one, and answer some of what they are asked as that does.

/// Methods that ask `self.inner`, by their names. Those of scalar functions, aggregates and window functions are alike as far as
/// they are listed here; `Signature` is that of where it stands.
#[macro_export]
macro_rules! as_inner {
    ($($method:ident),+) => { $($crate::as_inner!(@ $method);)+ };
    (@ name) => {
        fn name(&self) -> &str {
            self.inner.name()
        }
    };
    (@ aliases) => {
        fn aliases(&self) -> &[String] {
            self.inner.aliases()
        }
    };
    (@ signature) => {
        fn signature(&self) -> &Signature {
            self.inner.signature()
        }
    };
}
