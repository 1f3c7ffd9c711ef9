//! Bundles in YAML and JSON, on Linux and Windows, and the errors of bundles that cannot be used.

use std::collections::BTreeMap;
use std::error::Error as _;

use attachfs_paths::{ForeignPath, PathFormat};

use super::*;
use crate::documents::Syntax;

fn folder(path: &str) -> ForeignPath {
    ForeignPath::parse(PathFormat::of_root(path), path)
}

fn yaml(text: &str) -> BundleFile<'_> {
    BundleFile {
        syntax: Syntax::Yaml,
        bytes: text.as_bytes(),
    }
}

fn files<'a>(template: &'a str, values: &'a str, references: &'a str) -> BundleFiles<'a> {
    let if_any = |text: &'a str| (!text.is_empty()).then(|| yaml(text));
    BundleFiles {
        template: Some(yaml(template)),
        parameter_values: if_any(values),
        asset_references: if_any(references),
    }
}

fn template(parameters: &str) -> String {
    format!(
        "specificationVersion: jobtemplate-2023-09\nname: shot\nparameterDefinitions:\n{parameters}"
    )
}

/// What a bundle in `/b` says, with values that were given in `/work`.
fn assets(
    files: &BundleFiles<'_>,
    given: &[(&str, &str)],
) -> Result<(Vec<BundleParameter>, BundleReferences), BundleError> {
    let bundle = JobBundle::read(&folder("/b"), files)?;
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let values: BTreeMap<_, _> = given.iter().map(owned).collect();
    bundle.assets(&GivenParameters {
        values: &values,
        working_dir: &folder("/work"),
    })
}

fn told(error: &BundleError) -> String {
    let source = error
        .source()
        .map_or(String::new(), |source| format!(": {source}"));
    format!("{error}{source}")
}

#[test]
fn what_flows_where_is_what_parameters_say() {
    let mut parameters = String::new();
    for flow in ["NONE", "IN", "OUT", "INOUT"] {
        for object in ["FILE", "DIRECTORY"] {
            parameters += &format!(
                "  - {{name: {flow}_{object}, type: PATH, dataFlow: {flow}, objectType: {object}, default: {flow}/{object}}}\n"
            );
        }
    }
    parameters += "  - {name: plain, type: PATH, default: plain}\n";
    parameters +=
        "  - {name: several, type: 'LIST[PATH]', dataFlow: IN, default: [s/a, s/b, '']}\n";
    parameters += "  - {name: Frames, type: STRING, default: 1-10}\n  - {name: empty, type: PATH, dataFlow: IN, default: ''}\n";
    let template = template(&parameters);
    let (values, found) = assets(&files(&template, "", ""), &[]).unwrap();
    let expected = BundleReferences {
        input_files: ["/b/IN/FILE", "/b/INOUT/FILE"].map(str::to_owned).into(),
        input_directories: ["/b/IN/DIRECTORY", "/b/INOUT/DIRECTORY", "/b/s/a", "/b/s/b"]
            .map(str::to_owned)
            .into(),
        // Of a file that is written, the directory.
        outputs: [
            "/b/INOUT",
            "/b/INOUT/DIRECTORY",
            "/b/OUT",
            "/b/OUT/DIRECTORY",
        ]
        .map(str::to_owned)
        .into(),
        references: ["/b/NONE/DIRECTORY", "/b/NONE/FILE", "/b/plain"]
            .map(str::to_owned)
            .into(),
    };
    assert_eq!(found, expected);
    let frames = values.iter().find(|of| of.name == "Frames").unwrap();
    assert_eq!(frames.value, BundleValue::Other("1-10".to_owned()));
}

#[test]
fn values_of_the_bundle_are_below_it_and_those_that_are_given_below_the_working_directory() {
    let parameters = "  - {name: a, type: PATH, dataFlow: IN, default: default}\n  - {name: b, type: PATH, dataFlow: IN}\n";
    let template = template(parameters);
    let values = "parameterValues:\n- {name: a, value: ../up/./x}\n- {name: b, value: /abs/../y}\n- {name: 'deadline:priority', value: 50}\n";
    let files = files(&template, values, "");
    let directories = |given: &[(&str, &str)]| assets(&files, given).unwrap().1.input_directories;
    assert_eq!(directories(&[]), ["/abs/../y", "/up/x"]);
    assert_eq!(
        directories(&[("a", "z/../w"), ("other", "x")]),
        ["/abs/../y", "/work/w"]
    );
    assert_eq!(directories(&[("a", ""), ("b", "/c")]), ["/c"]);
}

#[test]
fn references_are_read_as_they_are_written_and_added_to() {
    let template = template(
        "  - {name: a, type: PATH, dataFlow: IN, objectType: FILE, default: scene.blend}\n",
    );
    let references = "assetReferences:\n  inputs:\n    filenames: [/x/b, /x/a, rel/c, /x/a]\n    directories: [/d]\n  outputs: {directories: [/o]}\n  referencedPaths: [/r]\n";
    let (_, found) = assets(&files(&template, "", references), &[]).unwrap();
    assert_eq!(
        found.input_files,
        ["/b/scene.blend", "/x/a", "/x/b", "rel/c"]
    );
    assert_eq!((found.input_directories.len(), found.outputs.len()), (1, 1));
    assert_eq!(found.paths().references, ["/r"]);
    for nothing in [
        "{}",
        "# nothing\n",
        "null",
        "assetReferences: {}",
        "assetReferences: {inputs: {}, outputs: null}",
    ] {
        let (_, found) = assets(&files(&template, nothing, nothing), &[]).unwrap();
        assert_eq!(found.input_files, ["/b/scene.blend"], "{nothing}");
    }
}

#[test]
fn json_is_the_same() {
    let template = br#"{"specificationVersion":"jobtemplate-2023-09","parameterDefinitions":[
        {"name":"a","type":"PATH","dataFlow":"IN","objectType":"FILE","default":"s"}]}"#;
    let file = BundleFile::one_of("template", Some(template), None).unwrap();
    let files = BundleFiles {
        template: file,
        parameter_values: None,
        asset_references: None,
    };
    assert_eq!(assets(&files, &[]).unwrap().1.input_files, ["/b/s"]);
    let twice = BundleFile::one_of("template", Some(b"{}"), Some(b"{}")).unwrap_err();
    assert!(told(&twice).contains("both template.json and template.yaml"));
    assert!(
        BundleFile::one_of("template", None, None)
            .unwrap()
            .is_none()
    );
}

#[test]
fn on_windows_paths_are_those_of_windows() {
    let template = template(
        "  - {name: a, type: PATH, dataFlow: OUT, objectType: FILE, default: 'out/f.png'}\n  - {name: b, type: PATH, dataFlow: IN, default: x}\n",
    );
    let values = "parameterValues: [{name: b, value: 'D:\\in'}]";
    let files = files(&template, values, "");
    let dir = folder("C:\\b");
    let bundle = JobBundle::read(&dir, &files).unwrap();
    let given = GivenParameters {
        values: &BTreeMap::new(),
        working_dir: &dir,
    };
    let (_, found) = bundle.assets(&given).unwrap();
    assert_eq!(
        (&*found.outputs, &*found.input_directories),
        (&["C:\\b\\out".to_owned()][..], &["D:\\in".to_owned()][..])
    );
    for outside in ["\\a", "C:a", "D:\\a", "..\\..\\a", "\\\\server\\share\\a"] {
        let template = self::template(&format!(
            "  - {{name: a, type: PATH, default: '{outside}'}}\n"
        ));
        let files = self::files(&template, "", "");
        assert!(JobBundle::read(&dir, &files).is_err(), "{outside}");
    }
}

#[test]
fn uris_are_no_files_where_the_template_has_expressions() {
    let parameters = "  - {name: a, type: path, dataFlow: IN, default: 's3://bucket/key'}\n  - {name: b, type: 'list[path]', dataFlow: IN, default: [x, 's3://b/k']}\n";
    let with = format!("extensions: [EXPR]\n{}", template(parameters));
    let (_, found) = assets(&files(&with, "", ""), &[]).unwrap();
    assert_eq!(found.input_directories, ["/b/x"]);
    // Without them such a text is a relative path.
    let without = template("  - {name: a, type: PATH, dataFlow: IN, default: 's3://bucket/key'}\n");
    let (_, found) = assets(&files(&without, "", ""), &[]).unwrap();
    assert_eq!(found.input_directories, ["/b/s3:/bucket/key"]);
}

#[test]
fn what_is_wrong_with_a_bundle_is_said() {
    let ok = template("  - {name: a, type: PATH}\n");
    for (template, values, said) in [
        (
            "name: x\n".to_owned(),
            "",
            "the job template cannot be used: specificationVersion is missing",
        ),
        (
            "specificationVersion: environment-2023-09\n".to_owned(),
            "",
            "specificationVersion is \"environment-2023-09\", \"jobtemplate-2023-09\" is expected",
        ),
        (
            template("  - {name: a, type: PATH, dataFlow: in}\n"),
            "",
            "parameterDefinitions[0].dataFlow is \"in\", NONE, IN, OUT or INOUT is expected",
        ),
        (
            template("  - {name: a, type: PATH, objectType: LINK}\n"),
            "",
            "objectType is \"LINK\", FILE or DIRECTORY is expected",
        ),
        (
            template("  - {name: a, type: PATH, default: 5}\n"),
            "",
            "parameterDefinitions[0].default is the number 5, a text is expected",
        ),
        (
            template("  - {name: a, type: PATH, default: /x}\n"),
            "",
            "the default of the parameter a is \"/x\"",
        ),
        (
            template("  - {name: a, type: PATH, default: x/../../y}\n"),
            "",
            "stays in the job bundle",
        ),
        (ok.clone(), "", "the parameter a has no value"),
        (
            ok.clone(),
            "parameterValues: [{name: a, value: [x]}]",
            "parameterValues[0].value is a list of 1, a text is expected",
        ),
        (
            ok,
            "parameterValues: [{value: x}]",
            "parameterValues[0].name is missing",
        ),
    ] {
        let error = assets(&files(&template, values, ""), &[]).unwrap_err();
        assert!(told(&error).contains(said), "{}\n{said}", told(&error));
    }
    let template = template("  - {name: a, type: 'LIST[PATH]', default: []}\n");
    let error = assets(&files(&template, "", ""), &[("a", "x")]).unwrap_err();
    assert!(
        told(&error).contains("the value \"x\" of the parameter a is no list"),
        "{error}"
    );
    let references = "assetReferences: {inputs: {filenames: [1]}}";
    let error = assets(&files(&template, "", references), &[]).unwrap_err();
    assert!(
        told(&error).contains("assetReferences.inputs.filenames[0] is the number 1"),
        "{}",
        told(&error)
    );
    let nothing = BundleFiles {
        template: None,
        parameter_values: None,
        asset_references: None,
    };
    let error = JobBundle::read(&folder("/b"), &nothing).unwrap_err();
    assert!(told(&error).contains("neither template.json nor template.yaml"));
}
