//! Why a component does not fit the contract: which function, which type, what each side has, and why that cannot be.
//!
//! Components link by the exact shape of the types that they use. A component's types (as its validator understood
//! them) are walked in parallel with those of the contract's text; the walk follows the contract, which is small,
//! so a component cannot make it long. Wasmtime refuses the same components, after compiling them and in words about
//! indices; `tests/evolution.rs` holds this equal to the component model's own rule.
//!
//! Neighbours: `check.rs` decides about names and versions before this, `load.rs` refuses what is found here.
use std::sync::OnceLock;

use wasmparser::component_types::{
    ComponentDefinedType, ComponentEntityType, ComponentFuncTypeId, ComponentValType,
};
use wasmparser::types::TypesRef;
use wit_parser::{Function, Resolve, Type, TypeDef, TypeDefKind, TypeOwner, WorldId, WorldItem};

use crate::check::{self, CheckError};
use crate::contract::WIT;
use crate::trace::one_line;
use crate::world::World;

/// Why a record's fields are what they are.
const FIELDS: &str = "a record crosses the boundary field by field, in order, so no field can be added to it, taken \
                      away, renamed, moved or changed once components use it";
/// Why a variant's, an enum's or a flags' cases are what they are.
const CASES: &str = "a case crosses the boundary as its number and its payload, so no case can be added, taken away, \
                     renamed, moved or changed once components use it";
/// Why a function's parameters and result are what they are.
const SIGNATURES: &str = "a function links by its whole signature, so a changed one needs a new name";
/// What a missing function or interface means.
const LATER: &str = "the component was built for a later version of the contract; it needs a later host";

/// One difference between a component and the contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}; {why}")]
pub struct Mismatch {
    /// The import or export, and within it the function.
    pub place: String,
    /// Which type or name differs, what the contract has and what the component has.
    pub what: String,
    /// Why that cannot be.
    pub why: &'static str,
}

/// Why nothing can be said of a component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MismatchError {
    /// It is no component of this world at all.
    #[error(transparent)]
    Component(#[from] CheckError),
    /// The contract's text cannot be read.
    #[error("contract: could not read its text: {0}")]
    Contract(String),
}

/// What keeps `component` from being loaded as a component of `world` by a host whose contract is the WIT text `wit`
/// ([`crate::contract::WIT`] is this host's). Empty: its types fit.
///
/// # Errors
/// Bytes that are no valid component, imports or exports whose very names are wrong, a text that is no contract.
pub fn explain_mismatch(component: &[u8], wit: &str, world: World) -> Result<Vec<Mismatch>, MismatchError> {
    let contract = Contract::parse(wit).map_err(MismatchError::Contract)?;
    let checked = check::check(component, u64::MAX, world, None)?;
    Ok(contract.compare(&checked, world))
}

/// A contract's text, understood.
pub(crate) struct Contract {
    resolve: Resolve,
    strategy: WorldId,
    reward: WorldId,
}

impl Contract {
    fn parse(wit: &str) -> Result<Self, String> {
        let mut resolve = Resolve::default();
        let package = resolve.push_source("orion.wit", wit).map_err(|error| format!("{error:#}"))?;
        let world = |resolve: &Resolve, world: World| {
            resolve.select_world(&[package], Some(world.name())).map_err(|error| format!("{error:#}"))
        };
        let (strategy, reward) = (world(&resolve, World::Strategy)?, world(&resolve, World::Reward)?);
        Ok(Self { resolve, strategy, reward })
    }

    /// This host's contract, parsed once.
    pub(crate) fn own() -> Result<&'static Self, String> {
        static OWN: OnceLock<Result<Contract, String>> = OnceLock::new();
        OWN.get_or_init(|| Self::parse(WIT)).as_ref().map_err(Clone::clone)
    }

    /// Every difference, each type's once.
    pub(crate) fn compare(&self, component: &check::Checked, world: World) -> Vec<Mismatch> {
        let world = match world {
            World::Strategy => self.strategy,
            World::Reward => self.reward,
        };
        let types = component.types.as_ref();
        let mut comparison = Comparison { resolve: &self.resolve, types, found: Vec::new() };
        for import in &component.imports {
            comparison.import(world, import);
        }
        for (key, item) in &self.resolve.worlds[world].exports {
            if let WorldItem::Function(function) = item {
                let name = self.resolve.name_world_key(key);
                let place = format!("export `{name}`");
                match types.component_item_for_export(&name).map(|item| &item.ty) {
                    Some(ComponentEntityType::Func(id)) => comparison.function(&place, function, *id),
                    _ => comparison.note(&place, "the component has no such function".to_owned(), SIGNATURES),
                }
            }
        }
        comparison.found
    }
}

struct Comparison<'a> {
    resolve: &'a Resolve,
    types: TypesRef<'a>,
    found: Vec<Mismatch>,
}

/// Where a type stands.
#[derive(Clone)]
struct Spot<'p> {
    place: &'p str,
    /// The innermost type of the contract that has a name, and what of it is looked at.
    what: String,
    why: &'static str,
}

impl Spot<'_> {
    fn inside(&self, what: String, why: &'static str) -> Self {
        Self { place: self.place, what, why }
    }
}

impl Comparison<'_> {
    fn note(&mut self, place: &str, what: String, why: &'static str) {
        // A type that several functions use is reported where it is met first.
        if !self.found.iter().any(|known| known.what == what) {
            self.found.push(Mismatch { place: place.to_owned(), what, why });
        }
    }

    /// Every function that the component takes from one imported interface.
    fn import(&mut self, world: WorldId, import: &str) {
        let place = format!("import `{}`", shown(import));
        let Some(ComponentEntityType::Instance(id)) =
            self.types.component_item_for_import(import).map(|item| &item.ty)
        else {
            return;
        };
        let wanted = import.split_once('/').and_then(|(_, rest)| rest.split_once('@')).map(|(name, _)| name);
        let interface = self.resolve.worlds[world].imports.values().find_map(|item| match item {
            WorldItem::Interface { id, .. } if self.resolve.interfaces[*id].name.as_deref() == wanted => {
                Some(*id)
            }
            _ => None,
        });
        let Some(interface) = interface else {
            self.note(&place, "the host's contract has no such interface".to_owned(), LATER);
            return;
        };
        let types = self.types;
        for (name, item) in &types[*id].exports {
            // Types alone are not linked; functions are, with the types that they use.
            let ComponentEntityType::Func(function) = &item.ty else { continue };
            match self.resolve.interfaces[interface].functions.get(name) {
                Some(wanted) => {
                    let place = format!("{place}, function `{name}`");
                    self.function(&place, wanted, *function);
                }
                None => {
                    let what = format!("the host's contract has no function `{}` there", shown(name));
                    self.note(&place, what, LATER);
                }
            }
        }
    }

    fn function(&mut self, place: &str, wanted: &Function, got: ComponentFuncTypeId) {
        let types = self.types;
        let got = &types[got];
        if got.async_ {
            self.note(
                place,
                "the component's function is `async`, the contract's is not".to_owned(),
                SIGNATURES,
            );
        }
        let wanted_names: Vec<&str> = wanted.params.iter().map(|parameter| parameter.name.as_str()).collect();
        let got_names: Vec<&str> = got.params.iter().map(|(name, _)| name.as_str()).collect();
        if let Some(difference) = list_difference("parameter", &wanted_names, &got_names) {
            return self.note(place, difference, SIGNATURES);
        }
        let function = Spot { place, what: String::new(), why: SIGNATURES };
        for (wanted, (name, got)) in wanted.params.iter().zip(&got.params) {
            let spot = function.inside(format!("parameter `{}`", shown(name.as_str())), SIGNATURES);
            self.value(&spot, &wanted.ty, got);
        }
        let spot = function.inside("the result".to_owned(), SIGNATURES);
        self.optional(&spot, wanted.result.as_ref(), got.result.as_ref());
    }

    fn optional(&mut self, spot: &Spot<'_>, wanted: Option<&Type>, got: Option<&ComponentValType>) {
        match (wanted, got) {
            (Some(wanted), Some(got)) => self.value(spot, wanted, got),
            (None, None) => {}
            (wanted, got) => {
                let wanted = wanted.map_or_else(|| "nothing".to_owned(), |wanted| self.contract_type(wanted));
                let got = got.map_or_else(|| "nothing".to_owned(), |got| component_type(self.types, got, 0));
                self.differ(spot, &wanted, &got);
            }
        }
    }

    fn differ(&mut self, spot: &Spot<'_>, wanted: &str, got: &str) {
        let what = format!("{}: the host's contract has {wanted}, the component has {got}", spot.what);
        self.note(spot.place, what, spot.why);
    }

    fn value(&mut self, spot: &Spot<'_>, wanted: &Type, got: &ComponentValType) {
        let types = self.types;
        let definition = match wanted {
            Type::Id(id) => &self.resolve.types[*id],
            _ => {
                let wanted = self.contract_type(wanted);
                let got = component_type(types, got, 0);
                if wanted != got {
                    self.differ(spot, &wanted, &got);
                }
                return;
            }
        };
        if let TypeDefKind::Type(aliased) = &definition.kind {
            return self.value(spot, aliased, got);
        }
        let ComponentValType::Type(id) = got else {
            return self.differ(spot, &self.contract_type(wanted), &component_type(types, got, 0));
        };
        let name = self.type_name(definition);
        let named = |part: &str, what: &str| match &name {
            Some(name) => format!("{name}, {part} `{what}`"),
            None => format!("{}, {part} `{what}`", spot.what),
        };
        match (&definition.kind, &types[*id]) {
            (TypeDefKind::Record(wanted), ComponentDefinedType::Record(got)) => {
                let wanted_names: Vec<&str> = wanted.fields.iter().map(|field| field.name.as_str()).collect();
                let got_names: Vec<&str> = got.fields.keys().map(|name| name.as_str()).collect();
                if let Some(difference) = list_difference("field", &wanted_names, &got_names) {
                    let what = format!("{}: {difference}", name.as_deref().unwrap_or(&spot.what));
                    return self.note(spot.place, what, FIELDS);
                }
                for (wanted, got) in wanted.fields.iter().zip(got.fields.values()) {
                    self.value(&spot.inside(named("field", &wanted.name), FIELDS), &wanted.ty, got);
                }
            }
            (TypeDefKind::Variant(wanted), ComponentDefinedType::Variant(got)) => {
                let wanted_names: Vec<&str> = wanted.cases.iter().map(|case| case.name.as_str()).collect();
                let got_names: Vec<&str> = got.cases.keys().map(|name| name.as_str()).collect();
                if let Some(difference) = list_difference("case", &wanted_names, &got_names) {
                    let what = format!("{}: {difference}", name.as_deref().unwrap_or(&spot.what));
                    return self.note(spot.place, what, CASES);
                }
                for (wanted, got) in wanted.cases.iter().zip(got.cases.values()) {
                    let spot = spot.inside(named("case", &wanted.name), CASES);
                    self.optional(&spot, wanted.ty.as_ref(), got.ty.as_ref());
                }
            }
            (TypeDefKind::Enum(wanted), ComponentDefinedType::Enum(got)) => {
                let wanted_names: Vec<&str> = wanted.cases.iter().map(|case| case.name.as_str()).collect();
                let got_names: Vec<&str> = got.iter().map(|name| name.as_str()).collect();
                if let Some(difference) = list_difference("case", &wanted_names, &got_names) {
                    let what = format!("{}: {difference}", name.as_deref().unwrap_or(&spot.what));
                    self.note(spot.place, what, CASES);
                }
            }
            (TypeDefKind::Flags(wanted), ComponentDefinedType::Flags(got)) => {
                let wanted_names: Vec<&str> = wanted.flags.iter().map(|flag| flag.name.as_str()).collect();
                let got_names: Vec<&str> = got.iter().map(|name| name.as_str()).collect();
                if let Some(difference) = list_difference("flag", &wanted_names, &got_names) {
                    let what = format!("{}: {difference}", name.as_deref().unwrap_or(&spot.what));
                    self.note(spot.place, what, CASES);
                }
            }
            (TypeDefKind::Tuple(wanted), ComponentDefinedType::Tuple(got))
                if wanted.types.len() == got.types.len() =>
            {
                for (wanted, got) in wanted.types.iter().zip(&got.types) {
                    self.value(spot, wanted, got);
                }
            }
            (TypeDefKind::List(wanted), ComponentDefinedType::List { element, .. }) => {
                self.value(spot, wanted, element);
            }
            (TypeDefKind::Option(wanted), ComponentDefinedType::Option { ty, .. }) => {
                self.value(spot, wanted, ty);
            }
            (TypeDefKind::Result(wanted), ComponentDefinedType::Result { ok, err, .. }) => {
                self.optional(spot, wanted.ok.as_ref(), ok.as_ref());
                self.optional(spot, wanted.err.as_ref(), err.as_ref());
            }
            _ => self.differ(spot, &self.contract_type(wanted), &component_type(types, got, 0)),
        }
    }

    /// A named type of the contract, as "record `query` of `retrieval`".
    fn type_name(&self, definition: &TypeDef) -> Option<String> {
        let name = definition.name.as_ref()?;
        let owner = match definition.owner {
            TypeOwner::Interface(id) => self.resolve.interfaces[id].name.clone(),
            TypeOwner::World(id) => Some(self.resolve.worlds[id].name.clone()),
            TypeOwner::None => None,
        };
        let kind = definition.kind.as_str();
        Some(
            owner.map_or_else(|| format!("{kind} `{name}`"), |owner| format!("{kind} `{name}` of `{owner}`")),
        )
    }

    fn contract_type(&self, ty: &Type) -> String {
        let optional =
            |ty: &Option<Type>| ty.as_ref().map_or_else(|| "_".to_owned(), |ty| self.contract_type(ty));
        let word = match ty {
            Type::Id(id) => {
                let definition = &self.resolve.types[*id];
                if let TypeDefKind::Type(aliased) = &definition.kind {
                    return self.contract_type(aliased);
                }
                if let Some(name) = self.type_name(definition) {
                    return name;
                }
                return match &definition.kind {
                    TypeDefKind::List(element) => format!("list<{}>", self.contract_type(element)),
                    TypeDefKind::Option(inner) => format!("option<{}>", self.contract_type(inner)),
                    TypeDefKind::Result(result) => {
                        format!("result<{}, {}>", optional(&result.ok), optional(&result.err))
                    }
                    TypeDefKind::Tuple(tuple) => {
                        let parts: Vec<String> =
                            tuple.types.iter().map(|ty| self.contract_type(ty)).collect();
                        format!("tuple<{}>", parts.join(", "))
                    }
                    other => other.as_str().to_owned(),
                };
            }
            Type::Bool => "bool",
            Type::U8 => "u8",
            Type::U16 => "u16",
            Type::U32 => "u32",
            Type::U64 => "u64",
            Type::S8 => "s8",
            Type::S16 => "s16",
            Type::S32 => "s32",
            Type::S64 => "s64",
            Type::F32 => "f32",
            Type::F64 => "f64",
            Type::Char => "char",
            Type::String => "string",
            Type::ErrorContext => "error-context",
        };
        word.to_owned()
    }
}

/// Nesting of a component's type that is still written out; it may be as deep as its author likes.
const SHOWN_DEPTH: usize = 3;
/// Names of a list that are written out.
const SHOWN_NAMES: usize = 6;

fn component_type(types: TypesRef<'_>, ty: &ComponentValType, depth: usize) -> String {
    let id = match ty {
        ComponentValType::Primitive(primitive) => return primitive.to_string(),
        ComponentValType::Type(id) => id,
    };
    if depth == SHOWN_DEPTH {
        return "…".to_owned();
    }
    let inner = |ty: &ComponentValType| component_type(types, ty, depth + 1);
    let optional = |ty: &Option<ComponentValType>| ty.as_ref().map_or_else(|| "_".to_owned(), inner);
    match &types[*id] {
        ComponentDefinedType::Primitive(primitive) => primitive.to_string(),
        ComponentDefinedType::Record(record) => {
            names("record", record.fields.keys().map(|name| name.as_str()))
        }
        ComponentDefinedType::Variant(variant) => {
            names("variant", variant.cases.keys().map(|name| name.as_str()))
        }
        ComponentDefinedType::Enum(cases) => names("enum", cases.iter().map(|name| name.as_str())),
        ComponentDefinedType::Flags(flags) => names("flags", flags.iter().map(|name| name.as_str())),
        ComponentDefinedType::List { element, .. } => format!("list<{}>", inner(element)),
        ComponentDefinedType::Option { ty, .. } => format!("option<{}>", inner(ty)),
        ComponentDefinedType::Result { ok, err, .. } => {
            format!("result<{}, {}>", optional(ok), optional(err))
        }
        ComponentDefinedType::Tuple(tuple) => {
            let mut parts: Vec<String> = tuple.types.iter().take(SHOWN_NAMES).map(inner).collect();
            if tuple.types.len() > SHOWN_NAMES {
                parts.push("…".to_owned());
            }
            format!("tuple<{}>", parts.join(", "))
        }
        _ => "a type that the contract does not know".to_owned(),
    }
}

/// "a record of `a`, `b`", cut where it gets long.
fn names<'n>(kind: &str, names: impl Iterator<Item = &'n str>) -> String {
    let article = if kind.starts_with('e') { "an" } else { "a" };
    format!("{article} {kind} of {}", listed(names))
}

fn listed<'n>(mut names: impl Iterator<Item = &'n str>) -> String {
    let mut listed: Vec<String> =
        names.by_ref().take(SHOWN_NAMES).map(|name| format!("`{}`", shown(name))).collect();
    if names.next().is_some() {
        listed.push("…".to_owned());
    }
    listed.join(", ")
}

/// What differs between two lists of names, or `None` where they are equal.
fn list_difference(kind: &str, wanted: &[&str], got: &[&str]) -> Option<String> {
    if wanted == got {
        return None;
    }
    let plural = |count: usize| if count == 1 { kind.to_owned() } else { format!("{kind}s") };
    let missing: Vec<&str> = wanted.iter().copied().filter(|name| !got.contains(name)).collect();
    let surplus: Vec<&str> = got.iter().copied().filter(|name| !wanted.contains(name)).collect();
    let mut parts = Vec::new();
    if !missing.is_empty() {
        let names = listed(missing.iter().copied());
        parts.push(format!(
            "the host's contract has {} {names}, the component has not",
            plural(missing.len())
        ));
    }
    if !surplus.is_empty() {
        let names = listed(surplus.iter().copied());
        parts.push(format!(
            "the component has {} {names}, the host's contract has not",
            plural(surplus.len())
        ));
    }
    if parts.is_empty() {
        let (wanted, got) = (listed(wanted.iter().copied()), listed(got.iter().copied()));
        parts.push(format!("the host's contract has the {kind}s in the order {wanted}, the component {got}"));
    }
    Some(parts.join("; "))
}

/// A name from a component, bounded.
fn shown(name: &str) -> String {
    one_line(name, 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_of_this_host_can_be_read() {
        assert!(Contract::own().is_ok());
        assert!(Contract::parse("package orion:search@0.1.0;").is_err());
        assert!(Contract::parse("record").is_err());
    }

    #[test]
    fn differences_of_lists_name_what_is_missing_and_what_is_too_much() {
        let cases = [
            (vec!["a", "b"], vec!["a", "b"], None),
            (vec!["a", "b"], vec!["a"], Some("the host's contract has field `b`, the component has not")),
            (
                vec!["a"],
                vec!["a", "b", "c"],
                Some("the component has fields `b`, `c`, the host's contract has not"),
            ),
            (
                vec!["a", "b"],
                vec!["b", "a"],
                Some("the host's contract has the fields in the order `a`, `b`, the component `b`, `a`"),
            ),
        ];
        for (wanted, got, expected) in cases {
            assert_eq!(list_difference("field", &wanted, &got).as_deref(), expected);
        }
    }
}
