//! The locks of a file: fields and statics whose type has a `Mutex` or a `RwLock` of any library in it.

use quote::ToTokens as _;
use syn::visit_mut::{self, VisitMut};
use syn::{ItemStatic, ItemStruct, Type};

use super::sources::{Code, SourceFile};

/// Their names, as documents write them: `Type.field`, `STATIC`.
pub(super) fn of(file: &SourceFile) -> Vec<String> {
    let mut locks = Locks::default();
    if !names_lock(&file.shipped) {
        return locks.0;
    }
    locks.visit_file_mut(&mut file.shipped.file());
    locks.0
}

#[derive(Debug, Default)]
struct Locks(Vec<String>);

impl VisitMut for Locks {
    fn visit_item_struct_mut(&mut self, item: &mut ItemStruct) {
        for (number, field) in item.fields.iter().enumerate() {
            if is_lock(&field.ty) {
                let name = field.ident.as_ref().map(ToString::to_string);
                let name = name.unwrap_or_else(|| number.to_string());
                self.0.push(format!("{}.{name}", item.ident));
            }
        }
    }

    fn visit_item_static_mut(&mut self, item: &mut ItemStatic) {
        if is_lock(&item.ty) {
            self.0.push(item.ident.to_string());
        }
        visit_mut::visit_item_static_mut(self, item);
    }
}

/// Whether it owns a lock; a reference is to another's.
fn is_lock(of: &Type) -> bool {
    !matches!(of, Type::Reference(_)) && names_lock(&Code::from(of.to_token_stream()))
}

fn names_lock(code: &Code) -> bool {
    let mut words = ["Mutex", "RwLock"].into_iter();
    words.any(|word| !code.lines_with(word).is_empty())
}

#[test]
fn fields_and_statics_of_any_depth_are_found() {
    let file = SourceFile::of_text(
        "lib.rs",
        "static ONE: std::sync::Mutex<u8> = todo();
         struct A { a: Arc<parking_lot::Mutex<()>>, b: u8, c: &'static Mutex<()> }
         struct B([tokio::sync::RwLock<()>; 2]);
         fn f() { static TWO: Mutex<u8> = todo(); }
         struct Guarded<'a> { guard: MutexGuard<'a, ()> }
         #[cfg(test)] struct Tested { a: Mutex<()> }",
    );
    assert_eq!(of(&file), ["ONE", "A.a", "B.0", "TWO"]);
}
