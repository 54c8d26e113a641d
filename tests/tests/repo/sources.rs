//! Checks of Rust sources.

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, ImplItemFn, ItemFn, ItemMod, Path, TraitItemFn, UseTree};

use super::{Complaints, File};

/// Lines of a file, its own tests among them.
const FILE: usize = 500;

/// Lines of a file of tests.
const TEST_FILE: usize = 800;

/// Lines of the unit tests that stand in the file that they test.
const INLINE_TESTS: usize = 50;

/// Lines of a function's body, blank ones and comments not counted.
const FUNCTION: usize = 60;

/// The same for a test, which reads like a story.
const TEST_FUNCTION: usize = 100;

/// Lines of a `main.rs`, blank ones and comments not counted: everything else is a function that a
/// test can call.
const MAIN: usize = 10;

fn parse(file: &File) -> syn::File {
    syn::parse_file(&file.text).unwrap_or_else(|error| panic!("{}: {error}", file.path))
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        path.is_ident("test")
            || path.segments.last().is_some_and(|last| last.ident == "test")
            || path.is_ident("cfg")
                && attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
    })
}

fn is_code(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with("//")
}

/// Every file says first what it is for.
pub fn opening(file: &File) -> Complaints {
    if file.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![format!("{}: open with '//!' and what the file is for", file.path)]
}

/// A file can be read in one go.
pub fn short_files(file: &File) -> Complaints {
    let lines = file.text.lines().count();
    let bound = if file.is_test() { TEST_FILE } else { FILE };
    if lines <= bound {
        return Vec::new();
    }
    vec![format!("{}: {lines} lines, expected at most {bound}: split it by concern", file.path)]
}

/// Unit tests stand in a file of their own before they hide what they test.
pub fn short_inline_tests(file: &File) -> Complaints {
    if file.is_test() {
        return Vec::new();
    }
    let long = parse(file).items.into_iter().filter_map(|item| {
        let syn::Item::Mod(module) = item else { return None };
        let braces = module.content?.0.span;
        let lines = braces.close().start().line - braces.open().start().line - 1;
        (is_test(&module.attrs) && lines > INLINE_TESTS).then_some(lines)
    });
    let complain = |lines| {
        let path = &file.path;
        format!("{path}: {lines} lines of tests, expected at most {INLINE_TESTS}: give them a file")
    };
    long.map(complain).collect()
}

/// Finds functions that are too long.
struct Functions<'a> {
    file: &'a File,
    in_tests: bool,
    complaints: Complaints,
}

impl Functions<'_> {
    fn look(&mut self, name: &syn::Ident, attributes: &[Attribute], body: &Block) {
        let inner = body.span().start().line..body.span().end().line - 1;
        let text = self.file.text.lines().skip(inner.start).take(inner.len());
        let count = text.filter(|line| is_code(line)).count();
        let test = self.in_tests || is_test(attributes);
        let bound = if test { TEST_FUNCTION } else { FUNCTION };
        if count > bound {
            let (path, line) = (&self.file.path, name.span().start().line);
            self.complaints.push(format!(
                "{path}:{line}: {name} has {count} lines, expected at most {bound}: name its parts"
            ));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        let outside = self.in_tests;
        self.in_tests |= is_test(&module.attrs);
        visit::visit_item_mod(self, module);
        self.in_tests = outside;
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.look(&function.sig.ident, &function.attrs, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.look(&function.sig.ident, &function.attrs, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(body) = &function.default {
            self.look(&function.sig.ident, &function.attrs, body);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// A function can be proofread.
pub fn short_functions(file: &File) -> Complaints {
    let in_tests = file.is_test();
    let mut functions = Functions { file, in_tests, complaints: Vec::new() };
    functions.visit_file(&parse(file));
    functions.complaints
}

/// A program's first file only calls the library.
pub fn short_main(file: &File) -> Complaints {
    let count = file.text.lines().filter(|line| is_code(line)).count();
    if count <= MAIN {
        return Vec::new();
    }
    let path = &file.path;
    vec![format!("{path}: {count} lines of code, expected at most {MAIN}: move them to lib.rs")]
}

/// No unsafe code, in macros neither.
pub fn no_unsafe(file: &File) -> Complaints {
    let tokens = file.text.parse::<TokenStream>();
    let tokens = tokens.unwrap_or_else(|error| panic!("{}: {error}", file.path));
    let mut found = Vec::new();
    find_unsafe(tokens, &mut found);
    let complain =
        |line| format!("{}:{line}: no unsafe: rustix and std have a safe way", file.path);
    found.into_iter().map(complain).collect()
}

fn find_unsafe(tokens: TokenStream, found: &mut Vec<usize>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => find_unsafe(group.stream(), found),
            TokenTree::Ident(word) if word == "unsafe" => found.push(word.span().start().line),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Parts of the standard library that touch the world outside the process's own memory.
const WORLD: [&str; 10] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::sync",
];

/// Collects the paths that a file names, those in `use` groups among them.
struct Paths(Vec<(String, usize)>);

impl Paths {
    fn in_use(&mut self, prefix: &str, tree: &UseTree) {
        let joined = |name: &syn::Ident| format!("{prefix}{name}");
        match tree {
            UseTree::Path(path) => self.in_use(&format!("{}::", joined(&path.ident)), &path.tree),
            UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.in_use(prefix, item));
            }
            UseTree::Name(name) => self.0.push((joined(&name.ident), tree.span().start().line)),
            UseTree::Rename(name) => self.0.push((joined(&name.ident), tree.span().start().line)),
            UseTree::Glob(_) => self.0.push((prefix.to_owned(), tree.span().start().line)),
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_use_tree(&mut self, tree: &'ast UseTree) {
        self.in_use("", tree);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let names = path.segments.iter().map(|segment| segment.ident.to_string());
        self.0.push((names.collect::<Vec<_>>().join("::"), path.span().start().line));
        visit::visit_path(self, path);
    }
}

/// ipc-proto touches nothing outside: bytes in, values out.
pub fn no_io(file: &File) -> Complaints {
    if !file.path.starts_with("ipc-proto/src/") {
        return Vec::new();
    }
    let mut paths = Paths(Vec::new());
    paths.visit_file(&parse(file));
    let touches = |name: &str| {
        let under = |part: &str| {
            name.strip_prefix(part).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        };
        WORLD.into_iter().any(under) || name == "println" || name == "eprintln"
    };
    let wrong = paths.0.into_iter().filter(|(name, _)| touches(name));
    wrong
        .map(|(name, line)| {
            format!("{}:{line}: {name} is the world outside: let the caller pass values", file.path)
        })
        .collect()
}

/// What may stand in a module's `src` beside one file for each thing outside: who reads one module
/// finds the way in all.
const SHAPE: [&str; 2] = ["Cargo.toml", "src/lib.rs"];

/// Every module's folder looks the same.
pub fn module_shape(files: &[File]) -> Complaints {
    let mut complaints = Vec::new();
    let mut modules: Vec<&str> = files
        .iter()
        .filter_map(|file| file.path.strip_prefix("modules/")?.split('/').next())
        .collect();
    modules.dedup();
    for module in modules.into_iter().filter(|module| *module != "runtime") {
        let has = |name: &str| {
            let path = format!("modules/{module}/{name}");
            files.iter().find(|file| file.path == path)
        };
        for name in SHAPE {
            if has(name).is_none() {
                complaints.push(format!("modules/{module}: {name} is missing"));
            }
        }
        if let Some(shell) = has("src/lib.rs")
            && !shell.text.contains("pub async fn run(")
        {
            let path = &shell.path;
            complaints.push(format!("{path}: the shell is one function, 'pub async fn run('"));
        }
        if has("src/core/mod.rs").is_some() {
            complaints.push(format!("modules/{module}/src/core/mod.rs: name it src/core.rs"));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> File {
        File::new("ipc-proto/src/x.rs", text)
    }

    #[test]
    fn a_file_without_its_purpose_is_found() {
        assert_eq!(opening(&source("//! Says why.\n")), [""; 0]);
        assert_eq!(opening(&source("use std::fmt;\n")).len(), 1);
    }

    #[test]
    fn a_long_file_is_found() {
        assert_eq!(short_files(&source(&"// x\n".repeat(FILE))), [""; 0]);
        assert_eq!(short_files(&source(&"// x\n".repeat(FILE + 1))).len(), 1);
        let behaviour = |lines| File::new("tests/tests/x.rs", &"// x\n".repeat(lines));
        assert_eq!(short_files(&behaviour(TEST_FILE)), [""; 0]);
        assert_eq!(short_files(&behaviour(TEST_FILE + 1)).len(), 1);
    }

    #[test]
    fn long_tests_in_the_file_that_they_test_are_found() {
        let of = |lines| {
            let body = "// x\n".repeat(lines);
            short_inline_tests(&source(&format!("#[cfg(test)]\nmod tests {{\n{body}}}\n")))
        };
        assert_eq!(of(INLINE_TESTS), [""; 0]);
        assert_eq!(of(INLINE_TESTS + 1).len(), 1);
        assert_eq!(short_inline_tests(&source("#[cfg(test)]\nmod tests;\n")), [""; 0]);
    }

    #[test]
    fn a_long_function_is_found_wherever_it_stands() {
        let body = |lines| "    call();\n".repeat(lines);
        let long = body(FUNCTION + 1);
        for text in [
            format!("fn f() {{\n{long}}}\n"),
            format!("impl X {{\nfn f() {{\n{long}}}\n}}\n"),
            format!("trait X {{\nfn f() {{\n{long}}}\n}}\n"),
            format!("fn g() {{ fn f() {{\n{long}}}\n}}\n"),
        ] {
            assert!(!short_functions(&source(&text)).is_empty(), "{text}");
        }
        let bound = format!("fn f() {{\n    // a comment\n\n{}}}\n", body(FUNCTION));
        assert_eq!(short_functions(&source(&bound)), [""; 0]);
        let test = format!("#[cfg(test)]\nmod tests {{\n#[test]\nfn f() {{\n{long}}}\n}}\n");
        assert_eq!(short_functions(&source(&test)), [""; 0]);
    }

    #[test]
    fn a_main_that_does_more_than_call_is_found() {
        assert_eq!(short_main(&source("//! What.\n\nfn main() {\n    x::run()\n}\n")), [""; 0]);
        assert_eq!(short_main(&source(&"call();\n".repeat(MAIN + 1))).len(), 1);
    }

    #[test]
    fn unsafe_is_found_in_macros_too_and_not_in_words() {
        let word = ["un", "safe"].concat();
        assert_eq!(no_unsafe(&source(&format!("m! {{ {word} {{ f() }} }}"))).len(), 1);
        assert_eq!(no_unsafe(&source(&format!("// {word}\nconst X: &str = \"{word}\";"))), [""; 0]);
    }

    #[test]
    fn io_is_found_in_use_groups_and_paths() {
        for text in [
            "use std::{fmt, fs};",
            "use std::net::*;",
            "fn f() { std::time::Instant::now(); }",
            "fn f() { println!(); }",
            "fn f(file: &mut std::fs::File) {}",
        ] {
            assert_eq!(no_io(&source(text)).len(), 1, "{text}");
        }
        assert_eq!(
            no_io(&source("use std::{fmt, str::FromStr}; use std::time::Duration;")),
            [""; 0]
        );
    }

    #[test]
    fn a_module_of_another_shape_is_found() {
        let file = |name: &str, text| File::new(&format!("modules/edged/{name}"), text);
        let manifest = file("Cargo.toml", "");
        let shell = file("src/lib.rs", "pub async fn run(context: Context) {}");
        assert_eq!(module_shape(&[manifest.clone(), shell.clone()]), [""; 0]);
        assert_eq!(module_shape(std::slice::from_ref(&manifest)).len(), 1);
        assert_eq!(module_shape(&[manifest.clone(), file("src/lib.rs", "")]).len(), 1);
        assert_eq!(module_shape(&[manifest, shell, file("src/core/mod.rs", "")]).len(), 1);
    }
}
