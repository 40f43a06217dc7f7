//! Runs the case files: files of a project as one text, then questions about what was loaded.
//!
//! | directive | body | answer |
//! |---|---|---|
//! | `shop` | | adds a small project: settings, a connection, three source tables |
//! | `file PATH` | its text | |
//! | `env`, `vars` | a `NAME=VALUE` per line | |
//! | `load [TARGET]` | | all findings, then the graph |
//! | `sql MODEL` | | the rendered text |
//! | `origin MODEL WORD…` | | where each occurrence of the words in the text came from |
//! | `show models`, `sources`, `connections`, `dashboards`, `syncs`, `profile`, `tests`, `notes` | | what was loaded |

use std::path::Path;

use project::{
    Connection, ConnectionKind, Dashboard, DataTest, Dependency, Diagnostic, Files, Model, Options, Project,
    SingularTest, Sync, SyncPart, load,
};
use testkit::{Block, Driver};

#[derive(Default)]
struct Case {
    files: Vec<(String, String)>,
    options: Options,
    project: Project,
}

impl Driver for Case {
    fn block(&mut self, block: &Block) -> Result<String, String> {
        let argument = block.arguments.first().map(String::as_str);
        match (block.directive.as_str(), argument) {
            ("shop", _) => self.shop(),
            ("file", Some(path)) => self.files.push((path.to_owned(), format!("{}\n", block.body))),
            ("env", _) => self.options.env.extend(pairs(&block.body)),
            ("vars", _) => self.options.vars.extend(pairs(&block.body).map(|(k, v)| (k, v.into()))),
            ("load", target) => {
                self.options.target = target.map(str::to_owned);
                return Ok(self.load());
            }
            ("sql", Some(name)) => return Ok(self.model(name)?.sql.clone()),
            ("origin", Some(name)) => return self.origin(name, &block.arguments[1..].join(" ")),
            ("show", Some(what)) => return self.show(what),
            (other, _) => return Err(format!("unknown directive `{other}`")),
        }
        Ok(String::new())
    }
}

fn pairs(body: &str) -> impl Iterator<Item = (String, String)> {
    body.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned()))
}

impl Case {
    fn shop(&mut self) {
        let mut add = |path: &str, text: &str| self.files.push((path.to_owned(), text.to_owned()));
        add("dbt_project.yml", "name: shop\n");
        add("connections.yml", "shop: {type: mysql, host: db, user: tidemill, password: {env: P}, database: shop}\n");
        add("models/sources.yml", "sources:\n- name: shop\n  tables: [{name: orders}, {name: items}, {name: users}]\n");
    }

    fn load(&mut self) -> String {
        let (project, found) = load(&Files::from_pairs(self.files.clone()), &self.options);
        self.project = project;
        let mut out: String =
            found.iter().fold(String::new(), |out, finding: &Diagnostic| out + &format!("{finding}\n"));
        for model in &self.project.models {
            let kept = model.materialized.word();
            out += &format!("{kept} {} as {}.{}", model.name, model.schema, model.alias);
            out += &format!("{}\n", list(" <- ", model.depends_on.iter().map(dependency)));
            if model.reads != model.depends_on {
                out += &format!("  reads {}\n", list("", model.reads.iter().map(dependency)));
            }
        }
        for parked in &self.project.parked {
            let mistake = parked.mistake.as_ref().filter(|mistake| mistake.place.file != parked.file);
            let why = mistake.map(|mistake| format!(", by {}: {}", mistake.place, mistake.message)).unwrap_or_default();
            let tests = match parked.tests.len() {
                0 => String::new(),
                tests => format!(", with {tests} tests"),
            };
            out += &format!("parked {}: {}{why}{tests}\n", parked.model, parked.reason);
        }
        let project = &self.project;
        out +=
            &project.broken_connections.keys().map(|name| format!("not read: connection {name}\n")).collect::<String>();
        out += &project.broken_roles.iter().map(|name| format!("reads nothing: role {name}\n")).collect::<String>();
        out += if project.roles_unread { "reads nothing: any role\n" } else { "" };
        out += &project.half_read.iter().map(|file| format!("half read: {file}\n")).collect::<String>();
        out += if found.iter().any(|finding| project.is_stopped_by(finding)) { "nothing runs\n" } else { "" };
        out
    }

    fn model(&self, name: &str) -> Result<&Model, String> {
        self.project.model(name).ok_or_else(|| format!("no model `{name}`"))
    }

    fn origin(&self, name: &str, word: &str) -> Result<String, String> {
        let model = self.model(name)?;
        let places = model.sql.match_indices(word).map(|(offset, _)| match model.spans.locate(offset) {
            Some(place) => place.to_string(),
            None => "nowhere".to_owned(),
        });
        Ok(places.collect::<Vec<_>>().join("\n"))
    }

    fn show(&self, what: &str) -> Result<String, String> {
        let lines: Vec<String> = match what {
            "models" => self.project.models.iter().map(model).collect(),
            "sources" => self.project.sources.iter().map(source).collect(),
            "connections" => self.project.connections.iter().map(connection).collect(),
            "profile" => vec![format!("{:#?}", self.project.profile)],
            "dashboards" => self.project.dashboards.iter().map(dashboard).collect(),
            "syncs" => self.project.syncs.iter().map(sync).collect(),
            "tests" => self.project.singular_tests.iter().map(singular).collect(),
            "notes" => self.project.notes.iter().map(|note| format!("{}: {}", note.model, note.text)).collect(),
            other => return Err(format!("nothing to show for `{other}`")),
        };
        Ok(lines.join("\n"))
    }
}

fn list(before: &str, items: impl Iterator<Item = String>) -> String {
    let items = items.collect::<Vec<_>>().join(", ");
    if items.is_empty() { items } else { format!("{before}{items}") }
}

fn dependency(dependency: &Dependency) -> String {
    match dependency {
        Dependency::Model(name) => name.clone(),
        Dependency::Source { source, table } => format!("{source}.{table}"),
    }
}

fn singular(test: &SingularTest) -> String {
    let of: Vec<String> = test.depends_on.iter().map(dependency).collect();
    format!("{} ({}) of {}", test.name, test.file, if of.is_empty() { "-".to_owned() } else { of.join(", ") })
}

fn model(model: &Model) -> String {
    let mut out = format!("{} ({}): {}", model.name, model.fqn.join("."), model.description.as_deref().unwrap_or("-"));
    out += &list("\n  tags ", model.tags.iter().cloned());
    out += &list("\n  key ", model.unique_key.iter().cloned());
    let meta = model.meta.iter().map(|(key, value)| format!("{key}={value}"));
    out += &list("\n  meta ", meta);
    for column in &model.columns {
        let data_type = column.data_type.as_deref().unwrap_or("-");
        out += &format!("\n  column {} {data_type} {}", column.name, column.description.as_deref().unwrap_or("-"));
    }
    model.tests.iter().fold(out, |out, found| out + "\n  " + &test(found))
}

fn test(test: &DataTest) -> String {
    let package = test.package.as_ref().map(|package| format!("{package}.")).unwrap_or_default();
    let mut out = format!("test {package}{}", test.test);
    out += &list(" on ", test.column.iter().cloned());
    out += &list(" named ", test.name.iter().cloned());
    out += &list(" with ", test.arguments.iter().map(|(k, v)| format!("{k}={v}")));
    out += &list(" config ", test.config.iter().map(|(k, v)| format!("{k}={v}")));
    format!("{out} at {}", test.place)
}

fn source(table: &project::SourceTable) -> String {
    let schema = table.schema.as_deref().unwrap_or("?");
    let mut out = format!("{}.{} = {}: {schema}.{}", table.source, table.name, table.connection, table.identifier);
    out += &list("\n  tags ", table.tags.iter().cloned());
    out += &list("\n  age by ", table.loaded_at_field.iter().cloned());
    out += &list("\n  freshness ", table.freshness.iter().map(ToString::to_string));
    out +=
        &list("\n  without ", table.left_out.iter().map(|pattern| format!("{} ({})", pattern.column, pattern.place)));
    table.tests.iter().fold(out, |out, found| out + "\n  " + &test(found))
}

fn connection(connection: &Connection) -> String {
    let kind = match &connection.kind {
        ConnectionKind::Mysql { host, port, user, password, database, tls, tls_ca, server_public_key, start } => {
            let files = [("tls_ca", tls_ca), ("server_public_key", server_public_key)];
            let files: String =
                files.iter().filter_map(|(key, path)| Some(format!(" {key} {}", path.as_ref()?))).collect();
            format!(
                "mysql {user}@{host}:{port} password {password:?} database {database:?} tls {tls:?}{files} start {start:?}"
            )
        }
        other => format!("{other:?}"),
    };
    let shown = |patterns: &[project::Pattern]| -> Vec<String> {
        let parts = |p: &project::Pattern| [p.database.as_deref().unwrap_or("-"), &p.table, &p.column].join(" ");
        patterns.iter().map(|pattern| format!("[{}] {}", parts(pattern).trim_end(), pattern.place)).collect()
    };
    let mut out = format!("{}: {kind}", connection.name);
    let filter = &connection.filter;
    for (word, patterns) in [("only", &filter.include), ("not", &filter.exclude), ("no column", &filter.columns)] {
        out += &list(&format!("\n  {word} "), shown(patterns).into_iter());
    }
    out
}

fn dashboard(dashboard: &Dashboard) -> String {
    let mut out = format!("{} {:?} at {}", dashboard.name, dashboard.title, dashboard.place);
    let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty()).into_iter();
    out += &list("\n  description ", said(&dashboard.description));
    for filter in &dashboard.filters {
        out += &format!("\n  filter {} {:?} {}", filter.name, filter.title, filter.sql.as_deref().unwrap_or("-"));
    }
    for tile in &dashboard.tiles {
        out += &format!("\n  {} {:?}: {}", tile.kind.word(), tile.title, tile.sql);
        out += &list("\n    x ", tile.x.iter().cloned());
        out += &list("\n    y ", tile.y.iter().cloned());
        out += &list("\n    description ", said(&tile.description));
        out += &list("\n    y2 ", tile.y2.iter().cloned());
        out += &list("\n    compare ", tile.compare.iter().cloned());
        out += &list("\n    compare_title ", said(&tile.compare_title));
        out += &list("\n    good ", tile.good.iter().map(|good| good.word().to_owned()));
        out += &list("\n    unfinished ", tile.unfinished.then(|| "yes".to_owned()).into_iter());
        out += &list("\n    unit ", said(&tile.unit));
        out += &list("\n    currency ", said(&tile.currency));
        out += &list("\n    columns ", tile.columns.iter().cloned());
        out += &list("\n    format ", tile.format.iter().map(|format| format.word().to_owned()));
    }
    out
}

fn sync(sync: &Sync) -> String {
    let mut out = format!("{} at {}: {}", sync.name, sync.place, dependency(&sync.of));
    let to =
        sync.to.iter().map(|(key, value)| format!("{key}={value} ({})", sync.place_of(&SyncPart::To(key.clone()))));
    out += &format!("\n  to {}{}", sync.destination, list(" ", to));
    let pairs = |pairs: &[(String, String)], part: fn(String) -> SyncPart| -> Vec<String> {
        let place = |target: &String| sync.place_of(&part(target.clone()));
        pairs.iter().map(|(target, column)| format!("{target}={column} ({})", place(target))).collect()
    };
    out += &list("\n  match ", pairs(&sync.matched, SyncPart::Match).into_iter());
    out += &match &sync.fields {
        Some(fields) => format!("\n  fields {}", pairs(fields, SyncPart::Field).join(", ")),
        None => String::new(),
    };
    format!("{}\n  {:?}, {:?}", out.trim_end(), sync.on_leave, sync.removals)
}

/// A folder on disk gives the same files as pairs do: what is hidden or made by dbt is left out, a link back is not followed, and a
/// byte order mark is no part of a text. Of a folder that is no project nothing is read.
fn reads_a_folder() -> Result<(), testkit::Failed> {
    let dir = tempfile::tempdir()?;
    let write = |path: &str, text: &[u8]| {
        let full = dir.path().join(path);
        std::fs::create_dir_all(full.parent().unwrap_or(dir.path()))?;
        std::fs::write(full, text)
    };
    write("dbt_project.yml", b"name: shop\n")?;
    write("profiles.yml", b"")?;
    write("models/deep/a.sql", b"select 1 as one")?;
    write("models/deep/broken.sql", b"select '\xff'")?;
    write("target/run/a.sql", b"no")?;
    write(".tidemill/x.sql", b"no")?;
    write("seeds/country.csv", b"a,b\n")?;
    write("models/schema.yml", b"\xef\xbb\xbfmodels: []\n")?;
    std::os::unix::fs::symlink(dir.path(), dir.path().join("models/deep/round"))?;
    let files = Files::read(dir.path())?;
    let paths: Vec<&str> = files.iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["dbt_project.yml", "models/deep/a.sql", "models/schema.yml", "profiles.yml"]);
    assert_eq!(files.get("models/schema.yml"), Some("models: []\n"));
    assert_eq!(Files::read(&dir.path().join("models"))?.iter().count(), 0);
    let (project, found) = load(&files, &Options::default());
    assert_eq!(project.models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["a"]);
    let found: Vec<String> = found.iter().map(|finding| finding.place.to_string()).collect();
    assert_eq!(found, ["models/deep/broken.sql", "seeds/country.csv"]);
    Ok(())
}

/// An entry of a long project costs little: 2,000 models over one another, macros and YAML included.
fn loads_many_models() -> Result<(), testkit::Failed> {
    let mut pairs = vec![("dbt_project.yml".to_owned(), "name: shop\n".to_owned())];
    let mut described = "models:\n".to_owned();
    pairs.push(("macros/m.sql".to_owned(), "{% macro id(x) %}{{ return(x) }}{% endmacro %}".to_owned()));
    for at in 0..2000 {
        let above = if at == 0 {
            "select 1 as one".to_owned()
        } else {
            format!("select * from {{{{ ref(id('m{}')) }}}}", at - 1)
        };
        pairs.push((format!("models/m{at}.sql"), above));
        described += &format!("- {{name: m{at}, columns: [{{name: one, tests: [unique, not_null]}}]}}\n");
    }
    pairs.push(("models/schema.yml".to_owned(), described));
    let (project, found) = load(&Files::from_pairs(pairs), &Options::default());
    assert_eq!(found, []);
    assert_eq!(project.models.len(), 2000);
    assert_eq!(project.models[1999].name, "m1999");
    Ok(())
}

fn main() {
    let extra = vec![
        libtest_mimic::Trial::test("reads_a_folder", reads_a_folder),
        libtest_mimic::Trial::test("loads_many_models", loads_many_models),
    ];
    testkit::run_with(env!("CARGO_MANIFEST_DIR"), "tests/cases", |_: &Path| Case::default(), extra)
}
