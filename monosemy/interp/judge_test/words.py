"""Word lists that planted texts are made of.  All of it is written for this test."""

from __future__ import annotations

LANGUAGES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "french": (
        "French, francais, français",
        ("Le vieux boulanger", "Ma petite sœur", "Notre voisine", "Le jeune soldat"),
        ("cherche une clé", "achète du pain", "raconte une histoire", "ferme la porte"),
        ("dans la rue", "avant la nuit", "près de l'église", "chaque matin"),
    ),
    "german": (
        "German, deutsch",
        ("Der alte Bäcker", "Meine kleine Schwester", "Unser Nachbar", "Die junge Ärztin"),
        ("sucht einen Schlüssel", "kauft frisches Brot", "liest ein Buch", "öffnet das Fenster"),
        ("auf der Straße", "vor dem Abend", "neben der Kirche", "jeden Morgen"),
    ),
    "spanish": (
        "Spanish, español, castilian",
        ("El viejo panadero", "Mi hermana pequeña", "Nuestra vecina", "El joven soldado"),
        ("busca una llave", "compra pan caliente", "cuenta una historia", "cierra la puerta"),
        ("en la calle", "antes de la noche", "cerca de la iglesia", "cada mañana"),
    ),
    "italian": (
        "Italian, italiano",
        ("Il vecchio fornaio", "La mia sorellina", "Il nostro vicino", "La giovane maestra"),
        ("cerca una chiave", "compra il pane", "racconta una storia", "chiude la finestra"),
        ("nella strada", "prima di sera", "vicino alla chiesa", "ogni mattina"),
    ),
    "dutch": (
        "Dutch, nederlands",
        ("De oude bakker", "Mijn kleine zusje", "Onze buurvrouw", "De jonge schilder"),
        ("zoekt een sleutel", "koopt vers brood", "leest een boek", "sluit het raam"),
        ("in de straat", "voor de avond", "naast de kerk", "elke ochtend"),
    ),
    "russian": (
        "Russian, cyrillic",
        ("Старый пекарь", "Моя младшая сестра", "Наш сосед", "Молодая учительница"),
        ("ищет ключ", "покупает хлеб", "читает книгу", "закрывает окно"),
        ("на улице", "перед обедом", "около церкви", "каждое утро"),
    ),
    "polish": (
        "Polish, polski",
        ("Stary piekarz", "Moja młodsza siostra", "Nasz sąsiad", "Młoda lekarka"),
        ("szuka klucza", "kupuje chleb", "czyta książkę", "zamyka okno"),
        ("na ulicy", "przed wieczorem", "obok kościoła", "każdego ranka"),
    ),
    "swedish": (
        "Swedish, svenska",
        ("Den gamle bagaren", "Min lilla syster", "Vår granne", "Den unga läkaren"),
        ("letar efter nyckeln", "köper färskt bröd", "läser en bok", "stänger fönstret"),
        ("på gatan", "före kvällen", "bredvid kyrkan", "varje morgon"),
    ),
}
"""(words that name it, subjects, what they do, where or when)."""

TOPICS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "cooking": (
        "cooking and food",
        "cook*, food*, kitchen*, culinary, baking, dish, ingredient*, meal, cuisine",
        ("soup", "flour", "oven", "sauce", "butter", "recipe", "garlic", "dough"),
    ),
    "seafaring": (
        "ships and sailing",
        "ship*, boat*, sailing, seafar*, nautical, maritime, naval, vessel, sea, marine",
        ("harbour", "anchor", "captain", "mast", "rudder", "lighthouse", "lifebelt", "keel"),
    ),
    "medicine": (
        "medicine and hospitals",
        "medic*, hospital*, health*, doctor*, disease*, illness*, clinical*",
        ("surgeon", "patient", "fever", "nurse", "vaccine", "bandage", "syringe", "diagnosis"),
    ),
    "football": (
        "football matches",
        "football*, soccer, sport*, match*, game, player*, athlet*, team*",
        (
            "goalkeeper",
            "penalty",
            "striker",
            "referee",
            "midfielder",
            "offside",
            "corner kick",
            "halftime",
        ),
    ),
    "astronomy": (
        "planets, stars and space",
        "astronom*, space*, star, celestial*, cosm*, universe, astral, sky, heaven*",
        ("planet", "telescope", "comet", "galaxy", "orbit", "asteroid", "moon", "eclipse"),
    ),
    "flowers": (
        "flowers",
        "flower*, plant*, garden*, botan*, bloom*, floral, flora",
        ("tulip", "rose", "daisy", "orchid", "petal", "bouquet", "violet", "dahlia"),
    ),
    "law": (
        "courts and the law",
        "law*, legal*, court*, judicia*, justice, crime*, criminal*, jurid*",
        ("judge", "verdict", "attorney", "witness", "jury", "plaintiff", "prosecutor", "appeal"),
    ),
    "weather": (
        "the weather",
        "weather*, meteorolog*, climat*, precipitation, atmospher*",
        ("storm", "rain", "thunder", "snow", "hail", "fog", "blizzard", "drizzle"),
    ),
    "farming": (
        "farms and crops",
        "farm*, agricultur*, crop*, rural, livestock, cultivat*",
        ("tractor", "harvest", "wheat", "barn", "cattle", "plough", "shepherd", "pasture"),
    ),
    "railways": (
        "trains and railways",
        "train*, rail*, transport*",
        (
            "locomotive",
            "platform",
            "carriage",
            "conductor",
            "timetable",
            "sleeping car",
            "signal box",
            "ticket inspector",
        ),
    ),
    "money": (
        "banks and money",
        "money*, bank*, financ*, monetary, econom*, invest*",
        ("loan", "interest", "mortgage", "deposit", "shares", "credit", "dividend", "invoice"),
    ),
    "computers": (
        "computers and software",
        "comput*, technolog*, digital*, hardware, coding, programming",
        ("keyboard", "software", "server", "compiler", "database", "laptop", "browser", "router"),
    ),
    "clothing": (
        "clothes",
        "cloth*, garment*, apparel, fashion*, attire, wear*, outfit*",
        ("coat", "trousers", "shirt", "scarf", "jacket", "skirt", "gloves", "sweater"),
    ),
    "birds": (
        "birds",
        "bird*, avian*, ornitholog*, fowl*",
        ("eagle", "sparrow", "owl", "heron", "swallow", "falcon", "pigeon", "robin"),
    ),
    "war": (
        "war and soldiers",
        "war*, militar*, soldier*, army, armies, combat*, conflict*, fight*",
        ("regiment", "cannon", "trench", "bayonet", "siege", "infantry", "cavalry", "platoon"),
    ),
    "school": (
        "schools and teaching",
        "school*, educat*, teach*, student*, academ*, learn*",
        ("homework", "classroom", "pupil", "lesson", "exam", "blackboard", "headmaster", "essay"),
    ),
    "religion": (
        "churches and religion",
        "religio*, church*, faith*, christian*, spiritual*, worship*, clerg*, sacred, holy",
        ("priest", "altar", "prayer", "monk", "sermon", "chapel", "bishop", "pilgrim"),
    ),
    "tools": (
        "tools",
        "tool*, carpent*, workshop*, hardware, handy*, woodwork*, equipment",
        ("hammer", "saw", "screwdriver", "pliers", "chisel", "wrench", "drill", "crowbar"),
    ),
    "trees": (
        "trees",
        "tree*, forest*, wood*, plant*, botan*",
        ("oak", "birch", "maple", "pine", "willow", "beech", "elm", "cedar"),
    ),
    "furniture": (
        "furniture",
        "furniture*, furnish*, household*, interior*",
        ("sofa", "wardrobe", "armchair", "bookshelf", "cupboard", "bench", "desk", "stool"),
    ),
}
"""(what it is, words that name it, words of it)."""

QUOTED = (
    "lantern",
    "ladder",
    "bridge",
    "basket",
    "candle",
    "umbrella",
)
"""Words that each stand for themselves."""

FRAMES = (
    "Nobody had expected that the {} would be there again today.",
    "She wrote two lines about the {} and put the letter away.",
    "After a while the talk turned to the {} and then to other things.",
    "There was one more {} than last year, as far as we know.",
    "He asked me quietly whether I remembered the {} from before.",
    "In the picture you can see the {} on the left.",
    "They spoke of the {} for an hour and agreed in the end.",
    "My aunt has always liked the story about the {} best.",
    "The new {} was the first thing that everybody noticed.",
    "Without the {} it would not have worked, he said.",
)
"""English sentences that say nothing of what fills them."""

NUMBERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "years": (
        "years, written as numbers",
        "year, date, number*, numer*, digit, time",
        (
            "The old hall was built in {} by two brothers.",
            "By {} most of them had left the village.",
            "Her first letter is from {} and quite short.",
            "Nothing like it was seen before {} or after.",
        ),
    ),
    "prices": (
        "amounts of money",
        "price*, money, monetary, amount, cost, currenc*, dollar, number*, numer*, digit, financ*",
        (
            "They asked {} for the small one by the door.",
            "It was sold for {} to a friend of theirs.",
            "He still owes me {} from the last time.",
            "With {} you could have both of them.",
        ),
    ),
    "times": (
        "times of day",
        "time*, clock, hour, number*, numer*, digit",
        (
            "We meet at {} in front of the gate.",
            "The last one leaves at {} and is never late.",
            "At {} she was already awake and dressed.",
            "They close at {} but let you stay.",
        ),
    ),
    "percentages": (
        "percentages",
        "percent*, share, proportion, number*, numer*, digit, statistic*, fraction",
        (
            "About {} of them said yes to the plan.",
            "Only {} could be saved in the end.",
            "It rose by {} within a few weeks.",
            "The rest, {} or so, never came back.",
        ),
    ),
    "telephone numbers": (
        "telephone numbers",
        "telephone*, phone*, number*, numer*, digit, contact*",
        (
            "Please call {} if you find it.",
            "My new one is {} until the summer.",
            "Write down {} before you forget it.",
            "Ask for her under {} in the evening.",
        ),
    ),
    "lengths": (
        "lengths with their unit",
        "length*, distance*, measure*, unit, meter, metre, number*, numer*, digit, size*",
        (
            "The wall is {} from end to end.",
            "After {} the path turns to the left.",
            "It was {} wide and very dark.",
            "They stood {} apart and did not speak.",
        ),
    ),
}
"""(what it is, words that name it, sentences)."""
