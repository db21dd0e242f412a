"""The note in a delivered file that says who made it, and that a model made part of it."""

from __future__ import annotations

import re
from typing import Final
from xml.sax.saxutils import escape

COMPOSITE: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


def provenance_xmp(credit: str, prompt: str | None) -> bytes:
    """An XMP packet that says that part of the picture was made by a model.

    Args:
        credit: the credit line, such as a name, a version and a model.
        prompt: what was asked for; None leaves it out, since prompts may be a trade secret.

    Source: IPTC Photo Metadata Standard 2025.1; IPTC NewsCodes, Digital Source Type.
    """
    tag = "Iptc4xmpExt:AIPromptInformation"
    asked = "" if prompt is None else f"<{tag}>{_xml(prompt)}</{tag}>"
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <xmp:CreatorTool>Packshot</xmp:CreatorTool>
   <photoshop:Credit>{_xml(credit)}</photoshop:Credit>
   <Iptc4xmpExt:DigitalSourceType>{COMPOSITE}</Iptc4xmpExt:DigitalSourceType>{asked}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>""".encode()


def _xml(text: str) -> str:
    # XML 1.0 has no way to write control characters and lone surrogates, not even escaped.
    return escape(re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text))
