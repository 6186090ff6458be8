//! What the page says, in the languages of the built-in error pages.

use crate::error_pages::{Spoken, in_language};

/// What it says in one language.
#[derive(Debug)]
pub struct Words {
    /// Of which language.
    pub language: &'static str,
    /// The title.
    pub title: &'static str,
    /// While the work is done.
    pub working: &'static str,
    /// When that takes long.
    pub slow: &'static str,
    /// When it is done.
    pub done: &'static str,
    /// Without JavaScript.
    pub script: &'static str,
    /// Without cookies.
    pub cookies: &'static str,
    /// Where the pass was not taken, several times.
    pub stuck: &'static str,
    /// Where a form was sent.
    pub form: &'static str,
    /// A button: load the page again.
    pub again: &'static str,
    /// A button: back to the page before.
    pub back: &'static str,
    /// Before a link to whoever can help.
    pub contact: &'static str,
}

/// The first is for whose language is none of these.
const WORDS: [Words; 6] = [
    Words {
        language: "en",
        title: "One moment, please",
        working: "Your browser is solving a small task that keeps machines from crowding the shop. There is nothing for you to do.",
        slow: "This takes longer than usual. Please leave this page open.",
        done: "Done. The page is loading.",
        script: "To tell you from a machine, the shop needs JavaScript. Please switch it on in your browser and load this page again.",
        cookies: "Your browser keeps no cookies of this shop. Please allow them and load this page again.",
        stuck: "The shop did not accept the result.",
        form: "What you sent has not reached the shop. Please go back, where your entries should still be, and send them again.",
        again: "Try again",
        back: "Go back",
        contact: "If it does not work, you can reach us here:",
    },
    Words {
        language: "de",
        title: "Einen Moment, bitte",
        working: "Ihr Browser löst eine kleine Aufgabe, die Maschinen vom Shop fernhält. Sie müssen nichts tun.",
        slow: "Das dauert länger als üblich. Bitte lassen Sie diese Seite offen.",
        done: "Fertig. Die Seite wird geladen.",
        script: "Um Sie von einer Maschine zu unterscheiden, braucht der Shop JavaScript. Bitte schalten Sie es in Ihrem Browser ein und laden Sie diese Seite neu.",
        cookies: "Ihr Browser behält keine Cookies dieses Shops. Bitte erlauben Sie sie und laden Sie diese Seite neu.",
        stuck: "Der Shop hat das Ergebnis nicht angenommen.",
        form: "Was Sie gesendet haben, ist nicht beim Shop angekommen. Bitte gehen Sie zurück, wo Ihre Eingaben noch stehen sollten, und senden Sie sie noch einmal.",
        again: "Noch einmal versuchen",
        back: "Zurück",
        contact: "Wenn es nicht klappt, erreichen Sie uns hier:",
    },
    Words {
        language: "fr",
        title: "Un instant, s’il vous plaît",
        working: "Votre navigateur résout une petite tâche qui évite que des machines n’encombrent la boutique. Vous n’avez rien à faire.",
        slow: "Cela prend plus de temps que d’habitude. Veuillez laisser cette page ouverte.",
        done: "C’est fait. La page se charge.",
        script: "Pour vous distinguer d’une machine, la boutique a besoin de JavaScript. Veuillez l’activer dans votre navigateur et recharger cette page.",
        cookies: "Votre navigateur ne garde pas les cookies de cette boutique. Veuillez les autoriser et recharger cette page.",
        stuck: "La boutique n’a pas accepté le résultat.",
        form: "Ce que vous avez envoyé n’est pas arrivé à la boutique. Veuillez revenir en arrière, où vos saisies devraient se trouver encore, et les envoyer à nouveau.",
        again: "Réessayer",
        back: "Revenir en arrière",
        contact: "Si cela ne fonctionne pas, vous pouvez nous joindre ici :",
    },
    Words {
        language: "es",
        title: "Un momento, por favor",
        working: "Su navegador resuelve una pequeña tarea que evita que las máquinas saturen la tienda. No tiene que hacer nada.",
        slow: "Esto tarda más de lo habitual. Por favor, deje esta página abierta.",
        done: "Listo. La página se está cargando.",
        script: "Para distinguirle de una máquina, la tienda necesita JavaScript. Por favor, actívelo en su navegador y vuelva a cargar esta página.",
        cookies: "Su navegador no guarda las cookies de esta tienda. Por favor, permítalas y vuelva a cargar esta página.",
        stuck: "La tienda no ha aceptado el resultado.",
        form: "Lo que ha enviado no ha llegado a la tienda. Por favor, vuelva atrás, donde sus datos deberían seguir estando, y envíelos de nuevo.",
        again: "Intentarlo de nuevo",
        back: "Volver atrás",
        contact: "Si no funciona, puede contactarnos aquí:",
    },
    Words {
        language: "it",
        title: "Un momento, per favore",
        working: "Il suo browser risolve un piccolo compito che evita che le macchine affollino il negozio. Non deve fare nulla.",
        slow: "Ci vuole più tempo del solito. Lasci aperta questa pagina, per favore.",
        done: "Fatto. La pagina si sta caricando.",
        script: "Per distinguerla da una macchina, il negozio ha bisogno di JavaScript. Lo attivi nel suo browser e ricarichi questa pagina, per favore.",
        cookies: "Il suo browser non conserva i cookie di questo negozio. Li consenta e ricarichi questa pagina, per favore.",
        stuck: "Il negozio non ha accettato il risultato.",
        form: "Ciò che ha inviato non è arrivato al negozio. Torni indietro, dove i suoi dati dovrebbero esserci ancora, e li invii di nuovo, per favore.",
        again: "Riprova",
        back: "Torna indietro",
        contact: "Se non funziona, può contattarci qui:",
    },
    Words {
        language: "nl",
        title: "Een ogenblik geduld",
        working: "Uw browser lost een kleine taak op die voorkomt dat machines de winkel overspoelen. U hoeft niets te doen.",
        slow: "Dit duurt langer dan normaal. Laat deze pagina open staan.",
        done: "Klaar. De pagina wordt geladen.",
        script: "Om u van een machine te onderscheiden heeft de winkel JavaScript nodig. Zet het aan in uw browser en laad deze pagina opnieuw.",
        cookies: "Uw browser bewaart geen cookies van deze winkel. Sta ze toe en laad deze pagina opnieuw.",
        stuck: "De winkel heeft het resultaat niet aanvaard.",
        form: "Wat u hebt verzonden is niet bij de winkel aangekomen. Ga terug, waar uw invoer nog zou moeten staan, en verzend het opnieuw.",
        again: "Opnieuw proberen",
        back: "Terug",
        contact: "Werkt het niet, dan bereikt u ons hier:",
    },
];

/// The words in the first of these languages that there is.
pub fn of(languages: &[String]) -> &'static Words {
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
            let all = [
                words.title,
                words.working,
                words.slow,
                words.done,
                words.script,
                words.cookies,
                words.stuck,
                words.form,
                words.again,
                words.back,
                words.contact,
            ];
            assert!(
                all.iter().all(|text| !text.is_empty() && !text.contains(['"', '<', '>', '&'])),
                "{words:?}"
            );
        }
        assert_eq!(of(&["xx".to_owned(), "it".to_owned()]).language, "it");
        assert_eq!(of(&[]).language, "en");
    }
}
