//! The pages for a shop that has none of its own.

use super::{Kind, Page, Spoken, in_language};

/// What they say in one language.
struct Words {
    language: &'static str,
    busy: [&'static str; 2],
    maintenance: [&'static str; 2],
    forbidden: [&'static str; 2],
    too_many: [&'static str; 2],
    again: &'static str,
}

impl Spoken for Words {
    fn language(&self) -> &'static str {
        self.language
    }
}

/// The first is for whose language is none of these.
const WORDS: [Words; 6] = [
    Words {
        language: "en",
        busy: ["One moment, please", "The shop is very busy just now. Your cart is kept."],
        maintenance: ["We will be right back", "The shop is being worked on and opens again soon."],
        forbidden: [
            "This is not possible",
            "The shop does not take this request. If you think that it should, please tell us.",
        ],
        too_many: [
            "A little slower, please",
            "That was a lot at once. Please wait a moment, and try again.",
        ],
        again: "Try again",
    },
    Words {
        language: "de",
        busy: [
            "Einen Moment, bitte",
            "Der Shop ist gerade sehr gefragt. Ihr Warenkorb bleibt erhalten.",
        ],
        maintenance: ["Wir sind gleich zurück", "Am Shop wird gearbeitet. Er öffnet bald wieder."],
        forbidden: [
            "Das geht hier nicht",
            "Der Shop nimmt diese Anfrage nicht an. Wenn Sie meinen, dass er das sollte, sagen Sie uns bitte Bescheid.",
        ],
        too_many: [
            "Bitte etwas langsamer",
            "Das war viel auf einmal. Bitte warten Sie einen Moment und versuchen Sie es noch einmal.",
        ],
        again: "Noch einmal versuchen",
    },
    Words {
        language: "fr",
        busy: [
            "Un instant, s’il vous plaît",
            "La boutique est très sollicitée en ce moment. Votre panier est conservé.",
        ],
        maintenance: ["Nous revenons bientôt", "La boutique est en maintenance et rouvre bientôt."],
        forbidden: [
            "Ce n’est pas possible",
            "La boutique n’accepte pas cette demande. Si cela vous semble une erreur, dites-le-nous.",
        ],
        too_many: [
            "Un peu moins vite, s’il vous plaît",
            "Cela faisait beaucoup à la fois. Patientez un instant, puis réessayez.",
        ],
        again: "Réessayer",
    },
    Words {
        language: "es",
        busy: [
            "Un momento, por favor",
            "La tienda tiene mucha demanda en este momento. Su carrito se conserva.",
        ],
        maintenance: [
            "Volvemos enseguida",
            "La tienda está en mantenimiento y abrirá de nuevo pronto.",
        ],
        forbidden: [
            "Esto no es posible",
            "La tienda no acepta esta solicitud. Si cree que es un error, díganoslo.",
        ],
        too_many: [
            "Un poco más despacio, por favor",
            "Han sido demasiadas solicitudes a la vez. Espere un momento e inténtelo de nuevo.",
        ],
        again: "Intentarlo de nuevo",
    },
    Words {
        language: "it",
        busy: [
            "Un momento, per favore",
            "Il negozio è molto richiesto in questo momento. Il suo carrello è conservato.",
        ],
        maintenance: ["Torniamo subito", "Il negozio è in manutenzione e riapre presto."],
        forbidden: [
            "Non è possibile",
            "Il negozio non accetta questa richiesta. Se le sembra un errore, ce lo comunichi.",
        ],
        too_many: [
            "Un po’ più piano, per favore",
            "Erano troppe richieste insieme. Attenda un momento e riprovi.",
        ],
        again: "Riprova",
    },
    Words {
        language: "nl",
        busy: [
            "Een ogenblik geduld",
            "Het is nu erg druk in de winkel. Uw winkelwagen blijft bewaard.",
        ],
        maintenance: [
            "We zijn zo terug",
            "Er wordt aan de winkel gewerkt. Hij opent binnenkort weer.",
        ],
        forbidden: [
            "Dit is niet mogelijk",
            "De winkel neemt dit verzoek niet aan. Laat het ons weten als u denkt dat dit niet klopt.",
        ],
        too_many: [
            "Iets langzamer, alstublieft",
            "Dat was veel tegelijk. Wacht even en probeer het opnieuw.",
        ],
        again: "Opnieuw proberen",
    },
];

const STYLE: &str = "body{margin:0;min-height:100vh;display:flex;align-items:center;justify-content:center;\
    font:1.1rem/1.6 system-ui,sans-serif;color:#222;background:#f6f6f4}main{max-width:32rem;padding:2rem;\
    text-align:center}h1{font-weight:600;font-size:1.8rem}a{color:inherit}\
    @media(prefers-color-scheme:dark){body{color:#eee;background:#1c1c1e}}";

/// The page in the first of these languages that there is.
pub(super) fn page(kind: Kind, languages: &[String]) -> Page {
    let words = in_language(&WORDS, languages);
    let [title, text] = match kind {
        Kind::Maintenance => words.maintenance,
        Kind::Forbidden => words.forbidden,
        Kind::TooMany => words.too_many,
        Kind::BadGateway | Kind::Unavailable | Kind::Timeout => words.busy,
    };
    let (language, again) = (words.language, words.again);
    let content = format!(
        "<!DOCTYPE html>\n<html lang=\"{language}\">\n<head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"robots\" \
         content=\"noindex\"><title>{title}</title><style>{STYLE}</style></head>\n\
         <body><main><h1>{title}</h1><p>{text}</p><p><a href=\"\">{again}</a></p></main></body>\n\
         </html>\n"
    );
    Page {
        content_type: "text/html; charset=utf-8",
        language: Some(language),
        content: content.into(),
    }
}
