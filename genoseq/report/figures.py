"""Colours that the colour-blind tell apart (Okabe and Ito), of the lettering and of the grid."""

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
INK, FAINT = "#222222", "#D9D9D9"
