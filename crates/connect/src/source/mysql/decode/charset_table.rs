//! Where charsets differ from what is generally known: tables taken from what the server itself converts.
//!
//! Each constant holds the 128 characters of the bytes 0x80 to 0xFF; where a byte has no character there is what the server
//! makes of it, which is a question mark, and in tis620 U+FFFD.
//! latin1 is MySQL's, which is Windows-1252 with the five undefined bytes as the control characters of their number.
//! `ascii` has no table of its own: bytes above 0x7F cannot be stored there, and are read as latin1 where an old server
//! let them through.

/// The characters of the bytes 0x80 to 0xFF of one charset.
pub(super) type Upper = [u16; 128];

pub(super) static ARMSCII8: Upper = upper(
    "\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\
     \u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}❁§։\
     \u{29}\u{28}»«—\u{2e}՝\u{2c}\u{2d}՟…՜՛՞ԱաԲբԳգԴդԵեԶզԷէԸըԹթԺժԻիԼլԽխԾծԿկՀհՁձՂղՃճՄմՅյՆնՇշՈոՉչՊպՋջՌռՍսՎվՏտՐրՑ\
     ցՒւՓփՔքՕօՖֆ’\u{27}",
);

pub(super) static CP1250: Upper = upper(
    "€?‚?„…†‡?‰Š‹ŚŤŽŹ?‘’“”•–—?™š›śťžź\u{a0}ˇ˘Ł¤Ą¦§¨©Ş«¬\u{ad}®Ż°±˛ł´µ¶·¸ąş\
     »Ľ˝ľżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
);

pub(super) static CP1251: Upper = upper(
    "ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—?™љ›њќћџ\u{a0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{ad}®Ї°±Ііґµ¶·ё№є»јЅѕїАБВГДЕЖЗИЙКЛМНОПРСТУФХЦ\
     ЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя",
);

pub(super) static CP1256: Upper = upper(
    "€\u{67e}‚ƒ„…†‡ˆ‰?‹Œ\u{686}\u{698}?\u{6af}‘’“”•–—?™?›œ\u{200c}\u{200d}\
     ?\u{a0}\u{60c}¢£¤¥¦§¨©?«¬\u{ad}®¯°±²³´µ¶·¸¹\u{61b}»¼½¾\u{61f}?\u{621}\u{622}\u{623}\
     \u{624}\u{625}\u{626}\u{627}\u{628}\u{629}\u{62a}\u{62b}\u{62c}\u{62d}\u{62e}\u{62f}\u{630}\u{631}\
     \u{632}\u{633}\u{634}\u{635}\u{636}×\u{637}\u{638}\u{639}\u{63a}\u{640}\u{641}\u{642}\u{643}à\u{644}â\
     \u{645}\u{646}\u{647}\u{648}çèéêë\u{649}\u{64a}îï\u{64b}\u{64c}\u{64d}\u{64e}ô\u{64f}\u{650}÷\u{651}ù\
     \u{652}ûü\u{200e}\u{200f}?",
);

pub(super) static CP1257: Upper = upper(
    "€?‚?„…†‡?‰?‹?¨ˇ¸?‘’“”•–—?™?›?¯˛?\
     \u{a0}?¢£¤?¦§Ø©Ŗ«¬\u{ad}®Æ°±²³´µ¶·ø¹ŗ»¼½¾æĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļ\
     šńņóōõö÷ųłśūüżž˙",
);

pub(super) static CP850: Upper = upper(
    "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒáíóúñÑªº¿®¬½¼¡«»░▒▓│┤ÁÂÀ©╣║╗╝¢¥┐└┴┬├─┼ãÃ╚╔╩╦╠═╬¤ðÐÊËÈıÍÎÏ┘┌█▄¦Ì▀ÓßÔÒõÕµþ\
     ÞÚÛÙýÝ¯´\u{ad}±‗¾¶§÷¸°¨·¹³²■\u{a0}",
);

pub(super) static CP852: Upper = upper(
    "ÇüéâäůćçłëŐőîŹÄĆÉĹĺôöĽľŚśÖÜŤťŁ×čáíóúĄąŽžĘę¬źČş«»░▒▓│┤ÁÂĚŞ╣║╗╝Żż┐└┴┬├─┼Ăă╚╔╩╦╠═╬¤đĐĎËďŇÍÎě┘┌█▄ŢŮ▀ÓßÔŃńňŠš\
     ŔÚŕŰýÝţ´\u{ad}˝˛ˇ˘§÷¸°¨˙űŘř■\u{a0}",
);

pub(super) static CP866: Upper = upper(
    "АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмноп░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀рстуфхцч\
     шщъыьэюяЁёЄєЇїЎў°∙·√ⁿ²■\u{a0}",
);

pub(super) static DEC8: Upper = upper(
    "\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\
     \u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}¡¢£\
     ?¥?§¤©ª«????°±²³?µ¶·?¹º»¼½?¿ÀÁÂÃÄÅÆÇÈÉÊËÌ\
     ÍÎÏ?ÑÒÓÔÕÖŒØÙÚÛÜŸ?ßàáâãäåæçèéêëìíîï?ñòóôõöœøùúûüÿ??",
);

pub(super) static GEOSTD8: Upper = upper(
    "€?‚?„…†‡?‰?‹?????‘’“”•–—??\
     ?›????\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿აბგდევზჱთიკლმნჲოპჟრსტ\
     ჳუფქღყშჩცძწჭხჴჯჰჵ??????????\
     ?????????????\
     №??",
);

pub(super) static GREEK: Upper = upper(
    "\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\
     \u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}ʽʼ£\
     ??¦§¨©?«¬\u{ad}?―°±²³΄΅Ά·ΈΉΊ»Ό½ΎΏΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡ?ΣΤΥΦΧΨΩΪΫάέήίΰαβγ\
     δεζηθικλμνξοπρςστυφχψωϊϋόύώ?",
);

pub(super) static HEBREW: Upper = upper(
    "\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\
     \u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}?\
     ¢£¤¥¦§¨©×«¬\u{ad}®‾°±²³´µ¶·¸¹÷»¼½¾????????\
     ?????????????\
     ???????????‗\u{5d0}\u{5d1}\
     \u{5d2}\u{5d3}\u{5d4}\u{5d5}\u{5d6}\u{5d7}\u{5d8}\u{5d9}\u{5da}\u{5db}\u{5dc}\u{5dd}\u{5de}\u{5df}\
     \u{5e0}\u{5e1}\u{5e2}\u{5e3}\u{5e4}\u{5e5}\u{5e6}\u{5e7}\u{5e8}\u{5e9}\u{5ea}??\u{200e}\
     \u{200f}?",
);

pub(super) static HP8: Upper = upper(
    "\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\
     \u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}ÀÂÈÊËÎÏ´\
     ˋˆ¨˜ÙÛ₤¯Ýý°ÇçÑñ¡¿¤£¥§ƒ¢âêôûáéóúàèòùäëöüÅîØÆåíøæÄìÖÜÉïßÔÁÃãÐðÍÌÓÒÕõŠšÚŸÿÞþ·µ¶¾—¼½ªº«■»±?",
);

pub(super) static KEYBCS2: Upper = upper(
    "ČüéďäĎŤčěĚĹÍľĺÄÁÉžŽôöÓůÚýÖÜŠĽÝŘťáíóúňŇŮÔšřŕŔ¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτ\
     ΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
);

pub(super) static KOI8R: Upper = upper(
    "─│┌┐└┘├┤┬┴┼▀▄█▌▐░▒▓⌠■∙√≈≤≥\u{a0}⌡°²·÷═║╒ё╓╔╕╖╗╘╙╚╛╜╝╞╟╠╡Ё╢╣╤╥╦╧╨╩╪╫╬©юабцдефгхийклмнопярстужвьызшэщчъЮАБ\
     ЦДЕФГХИЙКЛМНОПЯРСТУЖВЬЫЗШЭЩЧЪ",
);

pub(super) static KOI8U: Upper = upper(
    "─│┌┐└┘├┤┬┴┼▀▄█▌▐░▒▓⌠■•√≈≤≥\u{a0}⌡°²·÷═║╒ёє╔ії╗╘╙╚╛ґ╝╞╟╠╡ЁЄ╣ІЇ╦╧╨╩╪Ґ╬©юабцдефгхийклмнопярстужвьызшэщчъЮАБ\
     ЦДЕФГХИЙКЛМНОПЯРСТУЖВЬЫЗШЭЩЧЪ",
);

pub(super) static LATIN1: Upper = upper(
    "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄ\
     ÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
);

pub(super) static LATIN2: Upper = upper(
    "\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\
     \u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}Ą˘Ł¤ĽŚ§¨\
     ŠŞŤŹ\u{ad}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
);

pub(super) static LATIN5: Upper = upper(
    "\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\
     \u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}¡¢£¤¥¦§¨\
     ©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ",
);

pub(super) static LATIN7: Upper = upper(
    "\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\
     \u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}”¢£¤„¦§Ø\
     ©Ŗ«¬\u{ad}®Æ°±²³“µ¶·ø¹ŗ»¼½¾æĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļšńņóōõö÷ųłśūüżž’",
);

pub(super) static MACCE: Upper = upper(
    "ÄĀāÉĄÖÜáąČäčĆćéŹźĎíďĒēĖóėôöõúĚěü†°Ę£§•¶ß®©™ę¨≠ģĮįĪ≤≥īĶ∂∑łĻļĽľĹĺŅņŃ¬√ńŇ∆«»…\u{a0}ňŐÕőŌ–—“”‘’÷◊ōŔŕŘ‹›řŖŗŠ‚\
     „šŚśÁŤťÍŽžŪÓÔūŮÚůŰűŲųÝýķŻŁżĢˇ",
);

pub(super) static MACROMAN: Upper = upper(
    "ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›\
     \u{fb01}\u{fb02}‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ",
);

pub(super) static TIS620: Upper = upper(
    "\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\
     \u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{fffd}กขฃคฅฆ\
     งจฉชซฌญฎฏฐฑฒณดตถทธนบปผฝพฟภมยรฤลฦวศษสหฬอฮฯะ\u{e31}าำ\u{e34}\u{e35}\u{e36}\u{e37}\u{e38}\u{e39}\u{e3a}\
     \u{fffd}\u{fffd}\u{fffd}\u{fffd}฿เแโใไๅๆ\u{e47}\u{e48}\u{e49}\u{e4a}\u{e4b}\u{e4c}\u{e4d}\u{e4e}๏๐๑๒๓๔๕๖\
     ๗๘๙๚๛\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
);

/// Where the server reads a code of an East Asian charset as another character than `encoding_rs` does: runs of codes
/// and characters that both count upwards, as first code, length, first character. Those with the character 0 are of codes
/// that have none: each is a question mark.
pub(super) type Runs = [(u32, u16, u16)];

/// Codes whose character the server writes with another code: runs, as first code and length.
pub(super) type Doubles = [(u32, u16)];

/// No code twice.
pub(super) static NO_DOUBLES: [(u32, u16); 0] = [];

#[rustfmt::skip]
pub(super) static BIG5: [(u32, u16, u16); 35] = [
    (0xa145, 1, 0x2022), (0xa14e, 1, 0xff64), (0xa15a, 1, 0xfffd), (0xa1c2, 1, 0x203e), (0xa1c3, 1, 0xfffd),
    (0xa1c5, 1, 0xfffd), (0xa1e3, 1, 0x223c), (0xa1f2, 1, 0x2641), (0xa1f3, 1, 0x2609), (0xa1fe, 1, 0xfffd),
    (0xa240, 1, 0xfffd), (0xa241, 1, 0xff0f), (0xa242, 1, 0xff3c), (0xa244, 1, 0xa5), (0xa246, 2, 0xa2), (0xa2cc,
    1, 0xfffd), (0xa2ce, 1, 0xfffd), (0xa3c0, 63, 0), (0xc6a1, 1, 0x30fe), (0xc6a2, 2, 0x309d), (0xc6a4, 1,
    0x3005), (0xc6a5, 83, 0x3041), (0xc6f8, 7, 0x30a1), (0xc740, 63, 0x30a8), (0xc7a1, 16, 0x30e7), (0xc7b1, 2,
    0x414), (0xc7b3, 1, 0x401), (0xc7b4, 7, 0x416), (0xc7bb, 19, 0x423), (0xc7ce, 1, 0x451), (0xc7cf, 26, 0x436),
    (0xc7e9, 10, 0x2460), (0xc7f3, 10, 0x2474), (0xc7fd, 258, 0), (0xf9dd, 34, 0),
];

#[rustfmt::skip]
pub(super) static BIG5_DOUBLES: [(u32, u16); 6] = [
    (0xa15a, 1), (0xa1c3, 1), (0xa1c5, 1), (0xa1fe, 1), (0xa240, 1), (0xa2cc, 1),
];

#[rustfmt::skip]
pub(super) static CP932: [(u32, u16, u16); 24] = [
    (0x81ad, 11, 0), (0x81c0, 8, 0), (0x81cf, 11, 0), (0x81e9, 7, 0), (0x81f8, 4, 0), (0x8240, 15, 0),
    (0x8259, 7, 0), (0x827a, 7, 0), (0x829b, 4, 0), (0x82f2, 11, 0), (0x8397, 8, 0), (0x83b7, 8, 0),
    (0x83d7, 38, 0), (0x8461, 15, 0), (0x8492, 13, 0), (0x84bf, 574, 0), (0x875e, 1, 0), (0x8776, 8,
    0), (0x879d, 258, 0), (0x9873, 44, 0), (0xeaa5, 600, 0), (0xeeed, 2, 0), (0xef40, 189, 0), (0xfc4c,
    177, 0),
];

#[rustfmt::skip]
pub(super) static CP932_DOUBLES: [(u32, u16); 10] = [
    (0x8790, 3), (0x8795, 3), (0x879a, 3), (0xed40, 63), (0xed80, 125), (0xee40, 63), (0xee80, 109), (0xeeef, 14),
    (0xfa4a, 11), (0xfa58, 4),
];

#[rustfmt::skip]
pub(super) static EUCJPMS: [(u32, u16, u16); 142] = [
    (0xa2af, 11, 0), (0xa2c2, 8, 0), (0xa2d1, 11, 0), (0xa2eb, 7, 0), (0xa2fa, 4, 0), (0xa3a1, 15, 0),
    (0xa3ba, 7, 0), (0xa3db, 6, 0), (0xa3fb, 4, 0), (0xa4f4, 11, 0), (0xa5f7, 8, 0), (0xa6b9, 8, 0),
    (0xa6d9, 38, 0), (0xa7c2, 15, 0), (0xa7f2, 13, 0), (0xa8c1, 1086, 0), (0xadbf, 1, 0), (0xadd7, 8,
    0), (0xadfd, 514, 0), (0xcfd4, 43, 0), (0xf4a7, 88, 0), (0xf5a1, 94, 0xe000), (0xf6a1, 94, 0xe05e),
    (0xf7a1, 94, 0xe0bc), (0xf8a1, 94, 0xe11a), (0xf9a1, 94, 0xe178), (0xfaa1, 94, 0xe1d6), (0xfba1, 94, 0xe234),
    (0xfca1, 94, 0xe292), (0xfda1, 94, 0xe2f0), (0xfea1, 94, 0xe34e), (0x8fa1a1, 270, 0), (0x8fa2ba, 8, 0),
    (0x8fa2c3, 1, 0xffe4), (0x8fa2c5, 38, 0), (0x8fa2f2, 1007, 0), (0x8fa6e6, 1, 0), (0x8fa6e8, 1, 0),
    (0x8fa6eb, 1, 0), (0x8fa6ed, 4, 0), (0x8fa6fd, 197, 0), (0x8fa7cf, 35, 0), (0x8fa8a1, 94, 0),
    (0x8fa9a3, 1, 0), (0x8fa9a5, 1, 0), (0x8fa9a7, 1, 0), (0x8fa9aa, 1, 0), (0x8fa9ae, 1, 0), (0x8fa9b1,
    16, 0), (0x8fa9d1, 46, 0), (0x8faab9, 1, 0), (0x8faaf8, 7, 0), (0x8fabbc, 1, 0), (0x8fabc4, 1, 0),
    (0x8fabf8, 1031, 0), (0x8fede4, 1551, 0), (0x8ff3f3, 10, 0x2170), (0x8ff3fd, 2, 0x2160), (0x8ff4a1, 8,
    0x2162), (0x8ff4a9, 1, 0xff07), (0x8ff4aa, 1, 0xff02), (0x8ff4ab, 1, 0x3231), (0x8ff4ac, 1, 0x2116), (0x8ff4ad,
    1, 0x2121), (0x8ff4ae, 1, 0x70bb), (0x8ff4af, 1, 0x4efc), (0x8ff4b0, 1, 0x50f4), (0x8ff4b1, 1, 0x51ec),
    (0x8ff4b2, 1, 0x5307), (0x8ff4b3, 1, 0x5324), (0x8ff4b4, 1, 0xfa0e), (0x8ff4b5, 1, 0x548a), (0x8ff4b6, 1,
    0x5759), (0x8ff4b7, 2, 0xfa0f), (0x8ff4b9, 1, 0x589e), (0x8ff4ba, 1, 0x5bec), (0x8ff4bb, 1, 0x5cf5), (0x8ff4bc,
    1, 0x5d53), (0x8ff4bd, 1, 0xfa11), (0x8ff4be, 1, 0x5fb7), (0x8ff4bf, 1, 0x6085), (0x8ff4c0, 1, 0x6120),
    (0x8ff4c1, 1, 0x654e), (0x8ff4c2, 1, 0x663b), (0x8ff4c3, 1, 0x6665), (0x8ff4c4, 1, 0xfa12), (0x8ff4c5, 1,
    0xf929), (0x8ff4c6, 1, 0x6801), (0x8ff4c7, 2, 0xfa13), (0x8ff4c9, 1, 0x6a6b), (0x8ff4ca, 1, 0x6ae2), (0x8ff4cb,
    1, 0x6df8), (0x8ff4cc, 1, 0x6df2), (0x8ff4cd, 1, 0x7028), (0x8ff4ce, 2, 0xfa15), (0x8ff4d0, 1, 0x7501),
    (0x8ff4d1, 1, 0x7682), (0x8ff4d2, 1, 0x769e), (0x8ff4d3, 1, 0xfa17), (0x8ff4d4, 1, 0x7930), (0x8ff4d5, 4,
    0xfa18), (0x8ff4d9, 1, 0x7ae7), (0x8ff4da, 2, 0xfa1c), (0x8ff4dc, 1, 0x7da0), (0x8ff4dd, 1, 0x7dd6), (0x8ff4de,
    1, 0xfa1e), (0x8ff4df, 1, 0x8362), (0x8ff4e0, 1, 0xfa1f), (0x8ff4e1, 1, 0x85b0), (0x8ff4e2, 2, 0xfa20),
    (0x8ff4e4, 1, 0x8807), (0x8ff4e5, 1, 0xfa22), (0x8ff4e6, 1, 0x8b7f), (0x8ff4e7, 1, 0x8cf4), (0x8ff4e8, 1,
    0x8d76), (0x8ff4e9, 3, 0xfa23), (0x8ff4ec, 1, 0x90de), (0x8ff4ed, 1, 0xfa26), (0x8ff4ee, 1, 0x9115), (0x8ff4ef,
    2, 0xfa27), (0x8ff4f1, 1, 0x9592), (0x8ff4f2, 1, 0xf9dc), (0x8ff4f3, 1, 0xfa29), (0x8ff4f4, 1, 0x973b),
    (0x8ff4f5, 1, 0x974d), (0x8ff4f6, 1, 0x9751), (0x8ff4f7, 3, 0xfa2a), (0x8ff4fa, 1, 0x999e), (0x8ff4fb, 1,
    0x9ad9), (0x8ff4fc, 1, 0x9b72), (0x8ff4fd, 1, 0xfa2d), (0x8ff4fe, 1, 0x9ed1), (0x8ff5a1, 94, 0xe3ac),
    (0x8ff6a1, 94, 0xe40a), (0x8ff7a1, 94, 0xe468), (0x8ff8a1, 94, 0xe4c6), (0x8ff9a1, 94, 0xe524), (0x8ffaa1, 94,
    0xe582), (0x8ffba1, 94, 0xe5e0), (0x8ffca1, 94, 0xe63e), (0x8ffda1, 94, 0xe69c), (0x8ffea1, 94, 0xe6fa),
];

#[rustfmt::skip]
pub(super) static EUCJPMS_DOUBLES: [(u32, u16); 8] = [
    (0xadf0, 3), (0xadf5, 3), (0xadfa, 3), (0x8fa2b7, 1), (0x8fa2f1, 1), (0x8ff3fd, 2), (0x8ff4a1, 8), (0x8ff4ab,
    3),
];

#[rustfmt::skip]
pub(super) static EUCKR: [(u32, u16, u16); 73] = [
    (0xa2e8, 23, 0), (0xa5ab, 5, 0), (0xa5ba, 7, 0), (0xa5d9, 8, 0), (0xa5f9, 6, 0), (0xa6e5, 26, 0),
    (0xa7f0, 15, 0), (0xa8a5, 1, 0), (0xa8a7, 1, 0), (0xa8b0, 1, 0), (0xaaf4, 11, 0), (0xabf7, 8, 0),
    (0xacc2, 15, 0), (0xacf2, 13, 0), (0xada1, 94, 0), (0xaea1, 94, 0), (0xafa1, 94, 0), (0xc653, 78,
    0), (0xc741, 96, 0), (0xc841, 96, 0), (0xc941, 352, 0), (0xcb41, 96, 0), (0xcc41, 96, 0), (0xcd41,
    96, 0), (0xce41, 96, 0), (0xcf41, 96, 0), (0xd041, 96, 0), (0xd141, 96, 0), (0xd241, 96, 0),
    (0xd341, 96, 0), (0xd441, 96, 0), (0xd541, 96, 0), (0xd641, 96, 0), (0xd741, 96, 0), (0xd841, 96,
    0), (0xd941, 96, 0), (0xda41, 96, 0), (0xdb41, 96, 0), (0xdc41, 96, 0), (0xdd41, 96, 0), (0xde41,
    96, 0), (0xdf41, 96, 0), (0xe041, 96, 0), (0xe141, 96, 0), (0xe241, 96, 0), (0xe341, 96, 0),
    (0xe441, 96, 0), (0xe541, 96, 0), (0xe641, 96, 0), (0xe741, 96, 0), (0xe841, 96, 0), (0xe941, 96,
    0), (0xea41, 96, 0), (0xeb41, 96, 0), (0xec41, 96, 0), (0xed41, 96, 0), (0xee41, 96, 0), (0xef41,
    96, 0), (0xf041, 96, 0), (0xf141, 96, 0), (0xf241, 96, 0), (0xf341, 96, 0), (0xf441, 96, 0),
    (0xf541, 96, 0), (0xf641, 96, 0), (0xf741, 96, 0), (0xf841, 96, 0), (0xf941, 96, 0), (0xfa41, 96,
    0), (0xfb41, 96, 0), (0xfc41, 96, 0), (0xfd41, 96, 0), (0xfe41, 190, 0),
];

#[rustfmt::skip]
pub(super) static GB18030: [(u32, u16, u16); 20] = [
    (0xa3a0, 1, 0xe5e5), (0xa6d9, 7, 0xe78d), (0xa6ec, 2, 0xe794), (0xa6f3, 1, 0xe796), (0xfe59, 1, 0xe81e),
    (0xfe61, 1, 0xe826), (0xfe66, 2, 0xe82b), (0xfe6d, 1, 0xe832), (0xfe7e, 1, 0xe843), (0xfe90, 1, 0xe854),
    (0xfea0, 1, 0xe864), (0x8431a530, 65290, 0), (0x8432a530, 65290, 0), (0x8433a530, 65290, 0), (0x8434a530,
    65290, 0), (0x8435a530, 65290, 0), (0x8436a530, 65290, 0), (0x8437a530, 65290, 0), (0x8438a530, 65290,
    0), (0x8439a530, 22794, 0),
];

#[rustfmt::skip]
pub(super) static GB2312: [(u32, u16, u16); 16] = [
    (0xa1a4, 1, 0x30fb), (0xa1aa, 1, 0x2015), (0xa2a1, 16, 0), (0xa2e3, 2, 0), (0xa2ef, 2, 0), (0xa2fd, 2,
    0), (0xa4f4, 11, 0), (0xa5f7, 8, 0), (0xa6b9, 8, 0), (0xa6d9, 38, 0), (0xa7c2, 15, 0), (0xa7f2, 13,
    0), (0xa8bb, 10, 0), (0xa8ea, 186, 0), (0xa9f0, 1551, 0), (0xd7fa, 5, 0),
];

#[rustfmt::skip]
pub(super) static GBK: [(u32, u16, u16); 41] = [
    (0xa140, 97, 0), (0xa240, 97, 0), (0xa2ab, 6, 0), (0xa2e3, 2, 0), (0xa2ef, 2, 0), (0xa2fd, 164, 0),
    (0xa440, 97, 0), (0xa4f4, 173, 0), (0xa5f7, 170, 0), (0xa6b9, 8, 0), (0xa6d9, 7, 0), (0xa6ec, 2,
    0), (0xa6f3, 1, 0), (0xa6f6, 171, 0), (0xa7c2, 15, 0), (0xa7f2, 13, 0), (0xa896, 11, 0), (0xa8bc,
    1, 0), (0xa8bf, 1, 0), (0xa8c1, 4, 0), (0xa8ea, 21, 0), (0xa958, 1, 0), (0xa95b, 1, 0), (0xa95d, 3,
    0), (0xa989, 13, 0), (0xa997, 13, 0), (0xa9f0, 15, 0), (0xaaa1, 94, 0), (0xaba1, 94, 0), (0xaca1,
    94, 0), (0xada1, 94, 0), (0xaea1, 94, 0), (0xafa1, 94, 0), (0xd7fa, 5, 0), (0xf8a1, 94, 0),
    (0xf9a1, 94, 0), (0xfaa1, 94, 0), (0xfba1, 94, 0), (0xfca1, 94, 0), (0xfda1, 94, 0), (0xfe50, 175,
    0),
];

#[rustfmt::skip]
pub(super) static SJIS: [(u32, u16, u16); 24] = [
    (0x815f, 1, 0x5c), (0x8160, 1, 0x301c), (0x8161, 1, 0x2016), (0x817c, 1, 0x2212), (0x8191, 2, 0xa2), (0x81ad,
    11, 0), (0x81c0, 8, 0), (0x81ca, 1, 0xac), (0x81cf, 11, 0), (0x81e9, 7, 0), (0x81f8, 4, 0), (0x8240,
    15, 0), (0x8259, 7, 0), (0x827a, 7, 0), (0x829b, 4, 0), (0x82f2, 11, 0), (0x8397, 8, 0), (0x83b7,
    8, 0), (0x83d7, 38, 0), (0x8461, 15, 0), (0x8492, 13, 0), (0x84bf, 992, 0), (0x9873, 44, 0),
    (0xeaa5, 4696, 0),
];

#[rustfmt::skip]
pub(super) static SJIS_DOUBLES: [(u32, u16); 1] = [
    (0x5c, 1),
];

#[rustfmt::skip]
pub(super) static UJIS: [(u32, u16, u16); 69] = [
    (0xa1c0, 1, 0x5c), (0xa1c1, 1, 0x301c), (0xa1c2, 1, 0x2016), (0xa1dd, 1, 0x2212), (0xa1f1, 2, 0xa2), (0xa2af,
    11, 0), (0xa2c2, 8, 0), (0xa2cc, 1, 0xac), (0xa2d1, 11, 0), (0xa2eb, 7, 0), (0xa2fa, 4, 0), (0xa3a1,
    15, 0), (0xa3ba, 7, 0), (0xa3db, 6, 0), (0xa3fb, 4, 0), (0xa4f4, 11, 0), (0xa5f7, 8, 0), (0xa6b9,
    8, 0), (0xa6d9, 38, 0), (0xa7c2, 15, 0), (0xa7f2, 13, 0), (0xa8c1, 1854, 0), (0xcfd4, 43, 0),
    (0xf4a7, 88, 0), (0xf5a1, 94, 0xe000), (0xf6a1, 94, 0xe05e), (0xf7a1, 94, 0xe0bc), (0xf8a1, 94, 0xe11a),
    (0xf9a1, 94, 0xe178), (0xfaa1, 94, 0xe1d6), (0xfba1, 94, 0xe234), (0xfca1, 94, 0xe292), (0xfda1, 94, 0xe2f0),
    (0xfea1, 94, 0xe34e), (0x8fa1a1, 270, 0), (0x8fa2b7, 1, 0x7e), (0x8fa2ba, 8, 0), (0x8fa2c5, 38, 0),
    (0x8fa2f2, 1007, 0), (0x8fa6e6, 1, 0), (0x8fa6e8, 1, 0), (0x8fa6eb, 1, 0), (0x8fa6ed, 4, 0),
    (0x8fa6fd, 197, 0), (0x8fa7cf, 35, 0), (0x8fa8a1, 94, 0), (0x8fa9a3, 1, 0), (0x8fa9a5, 1, 0),
    (0x8fa9a7, 1, 0), (0x8fa9aa, 1, 0), (0x8fa9ae, 1, 0), (0x8fa9b1, 16, 0), (0x8fa9d1, 46, 0),
    (0x8faab9, 1, 0), (0x8faaf8, 7, 0), (0x8fabbc, 1, 0), (0x8fabc4, 1, 0), (0x8fabf8, 1031, 0),
    (0x8fede4, 1819, 0), (0x8ff5a1, 94, 0xe3ac), (0x8ff6a1, 94, 0xe40a), (0x8ff7a1, 94, 0xe468), (0x8ff8a1, 94,
    0xe4c6), (0x8ff9a1, 94, 0xe524), (0x8ffaa1, 94, 0xe582), (0x8ffba1, 94, 0xe5e0), (0x8ffca1, 94, 0xe63e),
    (0x8ffda1, 94, 0xe69c), (0x8ffea1, 94, 0xe6fa),
];

#[rustfmt::skip]
pub(super) static UJIS_DOUBLES: [(u32, u16); 2] = [
    (0xa1c0, 1), (0x8fa2b7, 1),
];

/// Characters that `swe7`, a 7-bit charset, has in place of ASCII's.
#[rustfmt::skip]
pub(super) static SWE7: [(u8, u16); 10] = [
    (0x40, 0xc9), (0x5b, 0xc4), (0x5c, 0xd6), (0x5d, 0xc5), (0x5e, 0xdc),
    (0x60, 0xe9), (0x7b, 0xe4), (0x7c, 0xf6), (0x7d, 0xe5), (0x7e, 0xfc),
];

/// Reads a table from its characters; a compile error where they are not 128.
const fn upper(text: &str) -> Upper {
    let bytes = text.as_bytes();
    let mut out = [0; 128];
    let (mut at, mut n) = (0, 0);
    while at < bytes.len() {
        let first = bytes[at] as u16;
        if first < 0x80 {
            out[n] = first;
            at += 1;
        } else if first < 0xe0 {
            out[n] = (first & 0x1f) << 6 | (bytes[at + 1] & 0x3f) as u16;
            at += 2;
        } else {
            out[n] = (first & 0x0f) << 12 | ((bytes[at + 1] & 0x3f) as u16) << 6 | (bytes[at + 2] & 0x3f) as u16;
            at += 3;
        }
        n += 1;
    }
    assert!(n == 128);
    out
}
