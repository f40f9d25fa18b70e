//! What the people of the demonstration say.

/// What one person writes about.
pub(super) struct Voice {
    /// Whose voice it is, by username.
    pub(super) username: &'static str,
    /// Sentences; one or two make a status. `{n}` becomes a number.
    pub(super) sentences: &'static [&'static str],
    /// Hashtags to choose from.
    pub(super) tags: &'static [&'static str],
    /// Descriptions of pictures; empty for those who post none.
    pub(super) pictures: &'static [&'static str],
}

/// Everybody's voice.
pub(super) const VOICES: [Voice; 16] = [
    Voice {
        username: "ada",
        sentences: &[
            "Wrote {n} lines, deleted more than that. A good day.",
            "The compiler and I have agreed to disagree, and it won.",
            "Reading an old paper on epoll with the window open.",
            "Today's bug had been there for {n} years. It sends its regards.",
            "If the test is hard to write, the code is telling you something.",
            "Tea first, then the race condition.",
            "Renamed one variable and suddenly understood the whole file.",
        ],
        tags: &["rust", "opensource", "caturday"],
        pictures: &["A notebook full of arrows between boxes, a cup of tea beside it"],
    },
    Voice {
        username: "bruno",
        sentences: &[
            "Der Nachtzug nach Süden hat heute nur {n} Minuten Verspätung.",
            "Zwischen zwei Tunneln liegt der schönste Blick der ganzen Strecke.",
            "Am Bahnsteig riecht es nach Regen und Kaffee.",
            "Wagen {n} ist leer, und niemand hat es gemerkt.",
            "Ich zähle wieder Brücken statt Schafe.",
            "Anschluss erreicht, mit einem Sprint, den niemand filmen durfte.",
        ],
        tags: &["bahn", "reisen"],
        pictures: &["Ein roter Zug fährt über ein steinernes Viadukt im Nebel"],
    },
    Voice {
        username: "chiyo",
        sentences: &[
            "今日の味噌汁は少し濃いめ。",
            "商店街で柿を{n}個もらいました。",
            "だしを取る時間がいちばん好きです。",
            "秋刀魚が焼けるまで、あと少し。",
            "新しい土鍋で炊いたごはん、最高。",
        ],
        tags: &["料理", "朝ごはん"],
        pictures: &["湯気の立つ味噌汁と焼き魚の朝食"],
    },
    Voice {
        username: "nour",
        sentences: &[
            "La lumière de ce matin mérite bien un café de plus.",
            "J'ai traduit {n} pages et perdu un seul mot.",
            "Deux langues dans la tête, et le rêve choisit la troisième.",
            "Le marché sent la coriandre et la pluie.",
            "Une phrase juste vaut une heure de silence.",
        ],
        tags: &["traduction", "cuisine"],
        pictures: &["Un étal de marché couvert d'herbes et d'agrumes"],
    },
    Voice {
        username: "mira",
        sentences: &[
            "Reminder: describe your pictures, somebody is listening to them.",
            "Handled {n} reports today, most of them before lunch.",
            "New here? Post an introduction, people are friendly.",
            "The local timeline is lovely this morning.",
        ],
        tags: &["introduction", "fediverse"],
        pictures: &[],
    },
    Voice {
        username: "tobias",
        sentences: &[
            "The small one sits in the seed tray again.",
            "{n} knocked-over pots this week, one suspect, no confession.",
            "She waits for the 16:00 sunbeam as if it had an appointment.",
            "Planted catnip. Instantly regretted catnip.",
            "Both asleep on the keyboard, so this is all you get today.",
        ],
        tags: &["caturday", "cats", "garden"],
        pictures: &[
            "A grey cat asleep in a seed tray",
            "Two cats look out of a window at the same pigeon",
        ],
    },
    Voice {
        username: "tides",
        sentences: &[
            "High water at {n} past the hour, moderate swell, light wind from the west.",
            "Low water in {n} minutes. The causeway is open.",
            "Spring tide today: keep away from the lower path.",
        ],
        tags: &["tides"],
        pictures: &[],
    },
    Voice {
        username: "kai",
        sentences: &[
            "Seeing is excellent tonight: Saturn's rings, steady as a drawing.",
            "{n} frames of the nebula stacked, and my fingers are frozen.",
            "Somewhere behind that cloud is a comet. I believe it.",
            "The Pleiades are up. Count how many you can see without glasses.",
            "Light that left before I was born just arrived in my garden.",
        ],
        tags: &["astronomy", "astrophotography"],
        pictures: &[
            "The Orion nebula, pink and blue, above a dark line of trees",
            "Saturn with its rings, small and sharp",
        ],
    },
    Voice {
        username: "lena",
        sentences: &[
            "Der Kompost dampft, der Herbst kann kommen.",
            "{n} Kürbisse geerntet und keine Ahnung, wohin damit.",
            "Die Igel sind wieder da und fressen die Schnecken. Danke.",
            "Knoblauch ist in der Erde.",
            "Heute nur gesessen und den Staudenknöterich beschimpft.",
        ],
        tags: &["garten", "garden", "herbst"],
        pictures: &["Ein Korb voller Kürbisse in allen Farben"],
    },
    Voice {
        username: "sol",
        sentences: &[
            "Olas de {n} metros y nadie en el agua.",
            "Hoy toca arroz con lo que haya en la nevera.",
            "El mar estaba tan plano que parecía de mentira.",
            "Mi abuela dice que la receta no se escribe, se mira.",
        ],
        tags: &["surf", "cocina"],
        pictures: &["Una playa vacía al amanecer con una sola ola larga"],
    },
    Voice {
        username: "yuki",
        sentences: &[
            "帰り道、月がとても大きい。",
            "電車の窓から富士山が見えた。{n}秒だけ。",
            "古本屋で知らない町の地図を買った。",
            "猫が先に家に入っていった。",
        ],
        tags: &["散歩", "caturday"],
        pictures: &["夕暮れの坂道と大きな月"],
    },
    Voice {
        username: "amelie",
        sentences: &[
            "Fini à deux heures du matin, encore un chapitre de trop.",
            "Ce roman tient en {n} pages et pourtant tout y est. Attention, spoiler : elle part.",
            "Une librairie de quartier a sauvé mon dimanche.",
            "Relire un livre, c'est vérifier qui l'on était.",
        ],
        tags: &["lecture", "livres"],
        pictures: &[],
    },
    Voice {
        username: "rex",
        sentences: &[
            "FOOTBALL TONIGHT. That is the post.",
            "{n} minutes in and still no goal, my nerves.",
            "That was a penalty in every league on this planet.",
            "Extra time. I am not moving from this sofa.",
            "Football is back and so is my terrible mood.",
        ],
        tags: &["football", "matchday"],
        pictures: &["A floodlit pitch seen from the top row"],
    },
    Voice {
        username: "grumble",
        sentences: &[
            "Everything was better {n} years ago, and I will not be taking questions.",
            "Unpopular opinion number {n}: doors should only open inwards.",
            "Nobody asked, so here is my opinion anyway.",
            "I have muted everybody and it is still too loud.",
        ],
        tags: &["hottakes"],
        pictures: &[],
    },
    Voice {
        username: "ines",
        sentences: &[
            "A luz de Lisboa às {n} da tarde não precisa de filtro.",
            "Revelei o rolo antigo: metade fantasmas, metade família.",
            "Esperei {n} minutos por esta sombra.",
            "Três gatos, um telhado, nenhum deles quis posar.",
        ],
        tags: &["fotografia", "photography"],
        pictures: &[
            "Um elétrico amarelo entre sombras compridas",
            "Roupa a secar numa rua estreita, contra a luz",
            "Um gato preto num telhado de barro",
        ],
    },
    Voice {
        username: "petra",
        sentences: &[
            "The centrifuge sings in B flat now. This is not normal.",
            "Replicated the figure on attempt {n}. Science!",
            "Peer review arrived. Reviewer two likes commas.",
            "A negative result is a result, says the poster that I now have to draw.",
        ],
        tags: &["science", "labtales"],
        pictures: &["A row of coloured test tubes on a cluttered bench"],
    },
];

/// Content warnings, where a status gets one.
pub(super) const WARNINGS: [&str; 4] =
    ["food", "long rant", "spoiler for a book from 1847", "spiders (small ones)"];

/// Questions of polls with their choices.
pub(super) const POLLS: [(&str, &[&str]); 4] = [
    ("Tabs or spaces?", &["Tabs", "Spaces", "Whatever the formatter says"]),
    ("When do you read your timeline?", &["Morning", "Evening", "Always, help"]),
    ("Best hour for a walk?", &["Before dawn", "Golden hour", "Midnight"]),
    ("Is soup a drink?", &["Yes", "No", "Only in a mug"]),
];

/// What is added to a status that is edited.
pub(super) const EDITS: [&str; 4] = [
    "Edit: fixed a typo.",
    "Edit: it was more than I thought.",
    "Edit: added the missing word.",
    "Edit: thank you all for the kind replies!",
];

/// Answers, behind the name of whom they answer.
pub(super) const REPLIES: [&str; 6] = [
    "this made my day, thank you!",
    "have you tried turning it off and on again?",
    "same here, since this morning.",
    "could you say more about the second part?",
    "I would frame that.",
    "saving this for later.",
];

/// Direct messages.
pub(super) const WHISPERS: [&str; 5] = [
    "are we still meeting at the station on Friday?",
    "I left the seeds with your neighbour.",
    "the draft is ready, have a look when you can.",
    "happy birthday! I hope the cake arrived whole.",
    "did you see the moon just now?",
];

/// Announcements of the instance.
pub(super) const ANNOUNCEMENTS: [&str; 3] = [
    "Maintenance on Sunday at 04:00: streaming will move to another machine. You will not notice.",
    "The server rules were made shorter. Be kind is still the first one.",
    "This is a demonstration. Nothing here is real, not even this announcement.",
];

/// Reactions to announcements.
pub(super) const REACTIONS: [&str; 4] = ["🎉", "👍", "🐈", "🚂"];
