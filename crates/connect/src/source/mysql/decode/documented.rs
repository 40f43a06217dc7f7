//! What docs/types.md says that a column becomes, held to what it becomes.

use std::path::Path;

use super::{SourceColumn, relation_schema};

#[test]
fn types_become_what_the_documents_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/types.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let mut checked = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').collect();
        let wanted = cells[2].trim().trim_matches('`');
        for column_type in cells[1].split('`').skip(1).step_by(2) {
            let data_type: String = column_type.chars().take_while(char::is_ascii_alphanumeric).collect();
            let column = SourceColumn {
                name: "a".to_owned(),
                data_type,
                column_type: column_type.to_owned(),
                charset: Some("utf8mb4".to_owned()),
                ..SourceColumn::default()
            };
            let schema = relation_schema(&[column]).unwrap_or_else(|e| panic!("{column_type}: {e}"));
            let wanted: relation::DataType = wanted.parse().unwrap_or_else(|e| panic!("{wanted}: {e}"));
            assert_eq!(schema.columns[0].data_type, wanted, "{column_type}");
            checked += 1;
        }
    }
    assert!(checked > 35, "only {checked} types are documented");
}
