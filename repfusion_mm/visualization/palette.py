"""The color palette of all figures and pages (Okabe and Ito).

The colors stay distinct in grayscale print and for color-blind readers.
"""

BLUE = '#0072B2'
GREEN = '#009E73'
ORANGE = '#E69F00'
PINK = '#CC79A7'
SKY_BLUE = '#56B4E9'
VERMILION = '#D55E00'

#: The order in which curves of one figure take their colors.
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY_BLUE, VERMILION)
