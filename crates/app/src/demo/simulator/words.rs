//! Names of people, places and things.

pub(super) const FIRST_NAMES: &[&str] = &[
    "Ada", "Alan", "Amara", "Anna", "Ben", "Carla", "Chen", "Dana", "Diego", "Elena", "Emil", "Farah", "Felix",
    "Grace", "Hana", "Hugo", "Ines", "Ivan", "Jonas", "Julia", "Kofi", "Lara", "Leon", "Lin", "Maria", "Mateo", "Mei",
    "Nadia", "Noah", "Olga", "Omar", "Paula", "Quinn", "Rosa", "Samir", "Sofia", "Theo", "Uma", "Wei", "Yuki",
];

pub(super) const LAST_NAMES: &[&str] = &[
    "Adeyemi", "Almeida", "Becker", "Bianchi", "Castro", "Costa", "Diaz", "Dubois", "Eriksen", "Fischer", "Garcia",
    "Haddad", "Hansen", "Huang", "Ito", "Jensen", "Keller", "Kim", "Kowalski", "Larsen", "Li", "Lopez", "Martin",
    "Mensah", "Meyer", "Moreau", "Nagy", "Novak", "Okafor", "Patel", "Pereira", "Rossi", "Sato", "Silva", "Smith",
    "Tanaka", "Vega", "Virtanen", "Wagner", "Wang", "Weber", "Yilmaz", "Zhang",
];

pub(super) const CITIES: &[&str] = &[
    "Accra",
    "Amsterdam",
    "Athens",
    "Barcelona",
    "Berlin",
    "Bogota",
    "Copenhagen",
    "Dublin",
    "Hamburg",
    "Helsinki",
    "Kyoto",
    "Lagos",
    "Lisbon",
    "Lyon",
    "Madrid",
    "Milan",
    "Nairobi",
    "Osaka",
    "Oslo",
    "Paris",
    "Porto",
    "Prague",
    "Seoul",
    "Shanghai",
    "Vienna",
    "Warsaw",
];

pub(super) const BRANDS: &[&str] = &[
    "Alder",
    "Birch & Co",
    "Cobalt",
    "Driftwood",
    "Ember",
    "Fjord",
    "Grove",
    "Harbour",
    "Iris",
    "Juniper",
    "Kestrel",
    "Lumen",
];

pub(super) const KINDS: &[&str] =
    &["Classic", "Compact", "Everyday", "Fine", "Large", "Light", "Little", "New", "Old", "Plain", "Soft", "Sturdy"];

pub(super) const METHODS: &[&str] = &["card", "card", "card", "wallet", "wallet", "invoice", "voucher"];

/// Categories and the things in them.
pub(super) const CATEGORIES: [(&str, &[&str]); 8] = [
    ("kitchen", &["pan", "kettle", "knife", "bowl", "mug", "board"]),
    ("garden", &["spade", "pot", "hose", "lantern", "chair"]),
    ("books", &["notebook", "atlas", "diary", "cookbook", "novel"]),
    ("toys", &["puzzle", "kite", "train", "bear", "blocks"]),
    ("clothing", &["scarf", "jacket", "socks", "hat", "shirt"]),
    ("sports", &["ball", "racket", "mat", "bottle", "rope"]),
    ("electronics", &["lamp", "radio", "charger", "speaker", "camera"]),
    ("beauty", &["soap", "brush", "cream", "mirror", "towel"]),
];
