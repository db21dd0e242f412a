import numpy as np

from pipelines.models import Candidates
from pipelines.models.per_box import PerBoxSegmenter


class Looking:
    """Cuts what is red inside a box, or all that is red for points; remembers the sizes of what it was shown."""

    def __init__(self):
        self.sizes = []

    def __call__(self, images, prompts):
        for image, some in zip(images, prompts, strict=True):
            self.sizes.append(image.shape[:2])
            yield [self._cut(image, prompt) for prompt in some]

    def _cut(self, image, prompt):
        inside = np.ones(image.shape[:2], bool)
        if prompt.ndim == 1:
            left, top, right, bottom = prompt.astype(int)
            inside[:] = False
            inside[top:bottom, left:right] = True
        return Candidates((inside & (image[..., 0] > 100))[None], np.array([0.9], np.float32))


def a_picture():
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[20:40, 30:60] = picture[150:170, 270:299] = (200, 0, 0)
    return picture


def boxes(*corners):
    return [np.array(one, np.float32) for one in corners]


def test_each_box_is_segmented_in_a_crop_of_its_own_and_its_mask_lies_where_it_was():
    looking = Looking()

    ((first, second),) = PerBoxSegmenter(looking, 0.5)([a_picture()], [boxes([30, 20, 60, 40], [265, 150, 299, 171])])

    assert looking.sizes == [(60, 60), (68, 68)]
    assert first.masks.shape == (1, 200, 300)
    assert first.masks.sum() == 20 * 30
    assert first.masks[0, 20:40, 30:60].all()
    assert second.masks.sum() == 20 * 29
    assert second.masks[0, 150:170, 270:299].all()


def test_answers_come_a_picture_at_a_time_whatever_each_is_asked():
    asked = [boxes([30, 20, 60, 40]), [], boxes([265, 150, 299, 171], [30, 20, 60, 40])]

    answers = list(PerBoxSegmenter(Looking(), 1.0)([a_picture()] * 3, asked))

    assert [len(some) for some in answers] == [1, 0, 2]
    assert answers[2][0].masks[0, 160, 280]
    assert answers[2][1].masks[0, 30, 40]


def test_points_are_shown_the_whole_picture():
    looking = Looking()

    ((found,),) = PerBoxSegmenter(looking, 0.5)([a_picture()], [[np.array([[40, 30, 1]], np.float32)]])

    assert looking.sizes == [(200, 300)]
    assert found.masks.sum() == 20 * 30 + 20 * 29
