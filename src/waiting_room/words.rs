//! What the page says, in the languages of the built-in error pages.

use crate::error_pages::{Spoken, in_language};

/// What it says in one language; `{}` stands for a number.
#[derive(Debug)]
pub(super) struct Words {
    /// Of which language.
    pub language: &'static str,
    /// The title.
    pub title: &'static str,
    /// Why somebody waits.
    pub why: &'static str,
    /// Nobody is before the visitor.
    pub next: &'static str,
    /// One visitor is.
    pub one_ahead: &'static str,
    /// So many are.
    pub ahead: &'static str,
    /// How long that takes: less than a minute, one, so many.
    pub soon: &'static str,
    /// One minute.
    pub minute: &'static str,
    /// So many minutes.
    pub minutes: &'static str,
    /// The place is kept, and nobody knows how many are before it.
    pub kept: &'static str,
    /// There is no place in the line.
    pub no_place: &'static str,
    /// What to do.
    pub stay: &'static str,
    /// Without cookies.
    pub cookies: &'static str,
}

/// The first is for whose language is none of these.
const WORDS: [Words; 6] = [
    Words {
        language: "en",
        title: "You are in the waiting room",
        why: "Many people are visiting the shop right now. So that it works well for everybody, we let visitors in one after another.",
        next: "You are next.",
        one_ahead: "1 visitor is ahead of you.",
        ahead: "{} visitors are ahead of you.",
        soon: "It will take less than a minute.",
        minute: "It will take about 1 minute.",
        minutes: "It will take about {} minutes.",
        kept: "Your place in the line is kept.",
        no_place: "Even the waiting room is full at the moment. This page tries again by itself.",
        stay: "Please leave this page open. It loads again by itself, and opens the shop when it is your turn.",
        cookies: "Your place is kept in a cookie: please allow cookies for this shop.",
    },
    Words {
        language: "de",
        title: "Sie sind im Warteraum",
        why: "Gerade besuchen viele Menschen den Shop. Damit er für alle gut funktioniert, lassen wir Besucher nacheinander ein.",
        next: "Sie sind als Nächstes an der Reihe.",
        one_ahead: "1 Besucher ist vor Ihnen.",
        ahead: "{} Besucher sind vor Ihnen.",
        soon: "Es dauert weniger als eine Minute.",
        minute: "Es dauert etwa 1 Minute.",
        minutes: "Es dauert etwa {} Minuten.",
        kept: "Ihr Platz in der Reihe bleibt erhalten.",
        no_place: "Auch der Warteraum ist gerade voll. Diese Seite versucht es von selbst wieder.",
        stay: "Bitte lassen Sie diese Seite offen. Sie lädt von selbst neu und öffnet den Shop, wenn Sie an der Reihe sind.",
        cookies: "Ihr Platz steht in einem Cookie: Bitte erlauben Sie Cookies für diesen Shop.",
    },
    Words {
        language: "fr",
        title: "Vous êtes dans la salle d’attente",
        why: "Beaucoup de personnes visitent la boutique en ce moment. Pour qu’elle fonctionne bien pour tous, nous laissons entrer les visiteurs les uns après les autres.",
        next: "Vous êtes le prochain.",
        one_ahead: "1 visiteur est avant vous.",
        ahead: "{} visiteurs sont avant vous.",
        soon: "Cela prendra moins d’une minute.",
        minute: "Cela prendra environ 1 minute.",
        minutes: "Cela prendra environ {} minutes.",
        kept: "Votre place dans la file est conservée.",
        no_place: "Même la salle d’attente est complète pour le moment. Cette page réessaie d’elle-même.",
        stay: "Veuillez laisser cette page ouverte. Elle se recharge d’elle-même et ouvre la boutique quand c’est votre tour.",
        cookies: "Votre place est gardée dans un cookie : veuillez autoriser les cookies de cette boutique.",
    },
    Words {
        language: "es",
        title: "Está en la sala de espera",
        why: "Muchas personas visitan la tienda en este momento. Para que funcione bien para todos, dejamos entrar a los visitantes uno tras otro.",
        next: "Es el siguiente.",
        one_ahead: "Hay 1 visitante delante de usted.",
        ahead: "Hay {} visitantes delante de usted.",
        soon: "Tardará menos de un minuto.",
        minute: "Tardará alrededor de 1 minuto.",
        minutes: "Tardará alrededor de {} minutos.",
        kept: "Su lugar en la fila se conserva.",
        no_place: "Incluso la sala de espera está llena en este momento. Esta página vuelve a intentarlo sola.",
        stay: "Por favor, deje esta página abierta. Se carga de nuevo sola y abre la tienda cuando sea su turno.",
        cookies: "Su lugar se guarda en una cookie: por favor, permita las cookies de esta tienda.",
    },
    Words {
        language: "it",
        title: "È nella sala d’attesa",
        why: "In questo momento molte persone visitano il negozio. Perché funzioni bene per tutti, facciamo entrare i visitatori uno dopo l’altro.",
        next: "È il prossimo.",
        one_ahead: "C’è 1 visitatore prima di lei.",
        ahead: "Ci sono {} visitatori prima di lei.",
        soon: "Ci vorrà meno di un minuto.",
        minute: "Ci vorrà circa 1 minuto.",
        minutes: "Ci vorranno circa {} minuti.",
        kept: "Il suo posto in fila è conservato.",
        no_place: "Anche la sala d’attesa al momento è piena. Questa pagina riprova da sola.",
        stay: "Lasci aperta questa pagina, per favore. Si ricarica da sola e apre il negozio quando è il suo turno.",
        cookies: "Il suo posto è conservato in un cookie: consenta i cookie di questo negozio, per favore.",
    },
    Words {
        language: "nl",
        title: "U bent in de wachtkamer",
        why: "Er bezoeken nu veel mensen de winkel. Om die voor iedereen goed te laten werken, laten we bezoekers na elkaar binnen.",
        next: "U bent de volgende.",
        one_ahead: "Er is 1 bezoeker voor u.",
        ahead: "Er zijn {} bezoekers voor u.",
        soon: "Het duurt minder dan een minuut.",
        minute: "Het duurt ongeveer 1 minuut.",
        minutes: "Het duurt ongeveer {} minuten.",
        kept: "Uw plaats in de rij blijft bewaard.",
        no_place: "Ook de wachtkamer is op dit moment vol. Deze pagina probeert het vanzelf opnieuw.",
        stay: "Laat deze pagina open staan. Ze laadt vanzelf opnieuw en opent de winkel wanneer u aan de beurt bent.",
        cookies: "Uw plaats staat in een cookie: sta cookies voor deze winkel toe.",
    },
];

/// The words in the first of these languages that there is.
pub(super) fn of(languages: &[String]) -> &'static Words {
    in_language(&WORDS, languages)
}

impl Spoken for Words {
    fn language(&self) -> &'static str {
        self.language
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_says_everything_and_needs_no_escape() {
        for words in &WORDS {
            let Words {
                language, title, why, next, one_ahead, ahead, soon, minute, minutes, ..
            } = words;
            let Words { kept, no_place, stay, cookies, .. } = words;
            for text in
                [language, title, why, next, one_ahead, soon, minute, kept, no_place, stay, cookies]
            {
                assert!(!text.is_empty() && !text.contains(['"', '<', '>', '&', '{']), "{text}");
            }
            for text in [ahead, minutes] {
                assert!(text.matches("{}").count() == 1 && !text.contains(['"', '<', '&']));
            }
        }
        assert_eq!(of(&["xx".to_owned(), "it".to_owned()]).language, "it");
        assert_eq!(of(&[]).language, "en");
    }
}
